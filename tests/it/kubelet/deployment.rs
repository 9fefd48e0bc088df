//! A Deployment's pods and their replacement: the rolling update within `maxSurge` and `maxUnavailable`.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment>

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::manifests::Workload;
use super::pod::Pod;
use super::service::Service;

/// Nothing that an update must come to takes longer.
const LONG: Duration = Duration::from_secs(180);

/// Pods of one workload behind a Service.
pub(crate) struct Deployment {
    workload: Workload,
    pub(crate) service: Service,
    /// Each with the revision it was made for.
    pods: Vec<(usize, Pod)>,
    revision: usize,
    /// How often pods were made.
    made: usize,
}

impl Deployment {
    /// Creates it and waits until all of its pods are ready and known to the Service.
    pub(crate) async fn create(workload: Workload, service: Service) -> Self {
        let mut deployment = Self { workload, service, pods: Vec::new(), revision: 1, made: 0 };
        for _ in 0..deployment.workload.replicas {
            deployment.make();
        }
        deployment.settled().await;
        deployment
    }

    /// Pods that are there.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().map(|(_, pod)| pod)
    }

    /// As many as there are to be, all of the present revision, ready, and those that the Service sends to.
    pub(crate) async fn settled(&self) {
        let deadline = Instant::now() + LONG;
        loop {
            let mut wanted: Vec<_> = self.staying(self.revision).map(|pod| pod.name.clone()).collect();
            let mut serving = self.service.serving();
            wanted.sort();
            serving.sort();
            let all_ready = self.staying(self.revision).all(|pod| pod.conditions().is_ready);
            if all_ready && wanted.len() == self.workload.replicas && wanted == serving {
                return;
            }
            assert!(Instant::now() < deadline, "not settled; wanted {wanted:?}, serving {serving:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Replaces all pods by ones of another template; returns those of before, which are gone.
    pub(crate) async fn update(&mut self, workload: Workload) -> Vec<Pod> {
        self.workload = workload;
        self.revision += 1;
        let deadline = Instant::now() + LONG;
        let Workload { replicas, surge, unavailable, .. } = self.workload;
        loop {
            let count = |pods: &mut dyn Iterator<Item = &Pod>| {
                pods.fold((0, 0), |(all, ready), pod| (all + 1, ready + usize::from(pod.conditions().is_ready)))
            };
            let (new, new_ready) = count(&mut self.staying(self.revision));
            let (old, old_ready) = count(&mut self.others());
            if old == 0 && new_ready == replicas {
                break;
            }
            // Pods that are being deleted do not count.
            for _ in 0..(replicas - new).min((replicas + surge).saturating_sub(new + old)) {
                self.make();
            }
            let spare = (new_ready + old_ready).saturating_sub(replicas - unavailable);
            self.others().filter(|pod| pod.conditions().is_ready).take(spare).for_each(Pod::delete);
            self.others().filter(|pod| !pod.conditions().is_ready).for_each(Pod::delete);
            assert!(Instant::now() < deadline, "the update is not done");
            sleep(Duration::from_millis(20)).await;
        }
        let (present, gone) = std::mem::take(&mut self.pods).into_iter().partition(|(of, _)| *of == self.revision);
        self.pods = present;
        let gone: Vec<Pod> = gone.into_iter().map(|(_, pod)| pod).collect();
        for pod in &gone {
            pod.ended().await;
        }
        gone
    }

    /// Deletes the pods of a node, which are made anew on another; returns those of before, which are gone.
    pub(crate) async fn drain(&mut self, node: &str) -> Vec<Pod> {
        let (gone, present) = std::mem::take(&mut self.pods).into_iter().partition(|(_, pod)| pod.node == node);
        self.pods = present;
        let gone: Vec<(usize, Pod)> = gone;
        for (_, pod) in &gone {
            pod.delete();
        }
        for _ in 0..gone.len() {
            self.make();
        }
        for (_, pod) in &gone {
            pod.ended().await;
        }
        self.settled().await;
        gone.into_iter().map(|(_, pod)| pod).collect()
    }

    fn staying(&self, revision: usize) -> impl Iterator<Item = &Pod> {
        let of = self.pods.iter().filter(move |(of, _)| *of == revision);
        of.map(|(_, pod)| pod).filter(|pod| !pod.conditions().is_deleted)
    }

    fn others(&self) -> impl Iterator<Item = &Pod> {
        let of = self.pods.iter().filter(|(of, _)| *of != self.revision);
        of.map(|(_, pod)| pod).filter(|pod| !pod.conditions().is_deleted)
    }

    /// Makes a pod; they take turns on two nodes.
    fn make(&mut self) {
        self.made += 1;
        let name = format!("{}-{}-{}", self.workload.name, self.revision, self.made);
        let pod = Pod::start(&self.workload, &name, if self.made.is_multiple_of(2) { "node-b" } else { "node-a" });
        self.service.follow(&pod);
        self.pods.push((self.revision, pod));
    }
}
