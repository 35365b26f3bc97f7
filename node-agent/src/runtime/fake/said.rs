//! What the simulated engine says of itself.

use shared::{
    image::{
        Platform,
        rules::{ImageRules, NodeImages},
    },
    resources::{Docker, Isolation, IsolationClass},
};

use crate::runtime::EngineFacts;

pub(super) fn facts() -> EngineFacts {
    EngineFacts {
        docker: Docker {
            version: "0.0.0".to_owned(),
            api_version: "1.41".to_owned(),
            runtimes: vec!["fake".to_owned()],
            cgroup_driver: "cgroupfs".to_owned(),
            live_restore: true,
        },
        cgroup_version: Some(2),
        isolation: Isolation {
            class: IsolationClass::SharedKernel,
            network: true,
            breach: None,
            findings: Vec::new(),
        },
        images: NodeImages {
            platform: Platform::here(),
            rules: ImageRules::default(),
            cached: Vec::new(),
            pull_bytes_per_s: None,
        },
        rental_disk: None,
        shortage: None,
        gpus_refused: None,
    }
}
