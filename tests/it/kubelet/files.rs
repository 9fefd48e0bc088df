//! The files of a pod: volumes as directories, and where a container finds them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::network::{Network, replace};
use super::spec::{Container, Volume};

/// Files of ConfigMaps, by the map's name.
pub(super) type ConfigMaps = BTreeMap<String, BTreeMap<String, String>>;

/// Where a container's paths are on this machine.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The container's path, and the directory; longest first.
    mapped: Vec<(String, PathBuf)>,
}

impl Files {
    /// Makes what the container mounts, below `pod`: an `emptyDir` is shared by all of its containers. `layer` are
    /// directories of the image.
    pub(super) fn of(
        container: &Container,
        volumes: &[Volume],
        maps: &ConfigMaps,
        layer: &[&str],
        pod: &Path,
        network: &Network,
    ) -> Self {
        let own = pod.join("containers").join(&container.name);
        let mut mapped: Vec<(String, PathBuf)> = Vec::new();
        let mut contents = Vec::new();
        for mount in &container.volume_mounts {
            let path = mount.mount_path.trim_end_matches('/').to_owned();
            let volume = volumes.iter().find(|volume| volume.name == mount.name);
            let volume = volume.unwrap_or_else(|| panic!("{}: no volume `{}`", container.name, mount.name));
            let directory = match (&volume.empty_dir, &volume.config_map) {
                (Some(_), None) => pod.join("volumes").join(&volume.name),
                (None, Some(source)) => {
                    let directory = own.join(path.trim_start_matches('/').replace('/', "-"));
                    match maps.get(&source.name) {
                        Some(map) => contents.push((directory.clone(), map)),
                        None => assert!(source.optional, "no ConfigMap `{}`", source.name),
                    }
                    directory
                }
                _ => panic!("volume `{}`: not played", volume.name),
            };
            fs::create_dir_all(&directory).unwrap();
            mapped.push((path, directory));
        }
        for path in layer {
            if !mapped.iter().any(|(mounted, _)| mounted == path) {
                let directory = own.join("layer").join(path.trim_start_matches('/'));
                fs::create_dir_all(&directory).unwrap();
                mapped.push(((*path).to_owned(), directory));
            }
        }
        mapped.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        let files = Self { mapped };
        for (directory, map) in contents {
            for (name, text) in map {
                fs::write(directory.join(name), files.rewrite(&network.rewrite(text))).unwrap();
            }
        }
        files
    }

    /// A text of the container's in which paths are those on this machine.
    pub(super) fn rewrite(&self, text: &str) -> String {
        // Marks first, so that no path is looked for in a directory that another was replaced by.
        let mark = |at: usize| format!("\0{at}\0");
        let mut rewritten = text.to_owned();
        for (at, (path, _)) in self.mapped.iter().enumerate() {
            rewritten = replace(&rewritten, path, &mark(at), |_| true);
        }
        for (at, (_, directory)) in self.mapped.iter().enumerate() {
            rewritten = rewritten.replace(&mark(at), directory.to_str().unwrap());
        }
        rewritten
    }

    /// Where a path of the container is, if it lies in a volume or a directory of the image.
    pub(super) fn find(&self, path: &str) -> Option<PathBuf> {
        let rewritten = self.rewrite(path);
        (rewritten != path).then(|| rewritten.into())
    }
}
