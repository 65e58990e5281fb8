//! What the engine tells: what control is to do, the names of the clusterset, and how it fares.

use super::Engine;
use crate::{
    mcs::{ObjectKey, World},
    names,
    registry::{
        desired::desired,
        properties,
        status::{self, Facts, KubeStatus},
    },
};
use isthmus_control::registry::RegistryStatus;
use std::{
    mem,
    sync::Arc,
    time::{Instant, SystemTime},
};

impl Engine {
    pub(super) fn publish(&mut self) {
        let file = self.inputs.file.borrow().clone();
        let mut links = self.links.clone();
        links.extend(file.links.clone());
        let before = self.outputs.desired.borrow().clone();
        let desired = desired(&self.plan, self.index.world(), &links, &file, &before);
        let is_first = !mem::replace(&mut self.is_loaded, true);
        self.outputs.desired.send_if_modified(|known| {
            let differs = is_first || **known != desired;
            *known = Arc::new(desired);
            differs
        });
    }

    /// Tells whoever answers for the clusterset's domain.
    pub(super) fn name(&self) {
        if self.outputs.zone.is_closed() {
            return;
        }
        let World { imports, slices, .. } = self.index.world();
        let services = names::services(imports, slices);
        self.outputs.zone.send_if_modified(|zone| {
            let differs = !zone.has(&services);
            if differs {
                *zone = Arc::new(zone.with(Arc::new(services)));
            }
            differs
        });
    }

    /// Tells them of what may have changed of these services.
    pub(super) fn name_anew<'a>(&self, keys: impl Iterator<Item = &'a ObjectKey>) {
        if self.outputs.zone.is_closed() {
            return;
        }
        let World { imports, slices, .. } = self.index.world();
        for (name, key) in keys.filter_map(|key| Some((key.service()?, key))) {
            let service = imports.get(key).map(|import| names::service(key, import, slices));
            self.outputs.zone.send_if_modified(|zone| {
                let differs = zone.is_known() && zone.service(&name) != service.as_ref();
                if differs {
                    *zone = Arc::new(zone.with_one(name, service));
                }
                differs
            });
        }
    }

    pub(super) fn tell(&mut self) {
        let failures = self.applier.failures();
        let report = status::report(
            &Facts {
                index: &self.index,
                errors: &self.errors,
                leadership: &self.inputs.leadership.borrow(),
                plan: &self.plan,
                wrong_links: &self.wrong,
                failures: &failures,
                writes: self.applier.counts(),
                plans: self.plans,
                notes: &properties::problems(&self.settings, &self.index),
            },
            Instant::now(),
        );
        let file = self.inputs.file_status.borrow_and_update().clone();
        self.outputs.status.send_if_modified(|known| {
            let next = told(&report, &file, known);
            let differs = **known != next;
            *known = Arc::new(next);
            differs
        });
    }
}

/// The status for control: the file's, and what the API server has to do with it.
fn told(report: &KubeStatus, file: &RegistryStatus, before: &RegistryStatus) -> RegistryStatus {
    let error = report.error();
    let last_error = file.last_error.clone().or(error);
    let changed = last_error != before.last_error;
    RegistryStatus {
        last_change: if changed { Some(SystemTime::now()) } else { before.last_change.max(file.last_change) },
        last_error,
        counts: Some(report.counts),
        detail: serde_json::to_value(report).ok(),
        ..file.clone()
    }
}
