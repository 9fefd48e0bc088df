//! A kubelet for the tests: it reads a pod's template and plays it on real processes, side by side on loopback.
//!
//! What it holds itself to, with where that is written:
//!
//! - Init containers run one after the other. One with `restartPolicy: Always` (a native sidecar) stays; the next
//!   container starts once its startup probe has passed. [KEP-753]; [Sidecar Containers]
//! - Startup, readiness and liveness probes run on their periods; the latter two begin when the container has started.
//!   Named ports are those of the probed container. [Probes]; `pkg/kubelet/prober/worker.go`
//! - A container that fails its liveness probe is stopped as one of a deleted pod: its `preStop` hook, SIGTERM, SIGKILL at
//!   the end of the grace period. Then it is started again, alone. [Hooks]; `kuberuntime_container.go`, `killContainer`
//! - At a pod's deletion all hooks start at the same moment. Each main container gets SIGTERM when its own hook has
//!   returned; a native sidecar when, besides, all main containers and all sidecars after it are gone. The grace period is
//!   one for all of that, but at least 2 s are left between SIGTERM and SIGKILL. [Pod Lifecycle];
//!   `kuberuntime_termination_order.go`
//! - Liveness probes of main containers end with the deletion, those of native sidecars and readiness probes go on.
//! - A Service sends new connections to pods that are ready and not terminating; where there is none, to those that
//!   terminate and are ready still. It learns of changes some time later. Connections stay where they are. [KEP-1669]
//!
//! What it does not know it refuses: nothing in a template is left out in silence.
//!
//! [KEP-753]: https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/753-sidecar-containers
//! [KEP-1669]: https://github.com/kubernetes/enhancements/tree/master/keps/sig-network/1669-proxy-terminating-endpoints
//! [Sidecar Containers]: https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
//! [Pod Lifecycle]: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
//! [Probes]: https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
//! [Hooks]: https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
#![allow(dead_code, reason = "a fixture may offer more than the tests of the day use")]

pub(crate) mod app;
mod container;
pub(crate) mod deployment;
mod environment;
mod files;
mod handler;
mod image;
pub(crate) mod manifests;
pub(crate) mod network;
pub(crate) mod pod;
mod probes;
mod process;
pub(crate) mod record;
pub(crate) mod service;
pub(crate) mod spec;
