//! ● What is said of an export on its ServiceExport.

use super::{
    Kind, Problem,
    conditions::Conditions,
    conflicts,
    export::{Exported, Invalid},
    here::{Context, Here},
};
use crate::api::mcs::{ServiceExport, ServiceExportStatus};

/// The export's conditions.
pub(super) fn status(
    cx: &Context<'_>,
    export: &ServiceExport,
    exported: Result<&Exported<'_>, &Invalid>,
    here: Option<&Here<'_>>,
    problems: &[Problem],
) -> ServiceExportStatus {
    let known = export.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let make = Conditions { known, generation: export.metadata.generation, now: cx.now };
    if let Err(Invalid { reason, message }) = exported {
        let valid = make.make("Valid", false, reason, message.as_str());
        let ready = make.make("Ready", false, "Failed", "an export that is not valid is not exported");
        return ServiceExportStatus { conditions: vec![valid, ready] };
    }
    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let failed = problems
        .iter()
        .any(|problem| matches!(problem, Problem::NotOurs { kind: Kind::Import, .. } | Problem::NoRoom { .. }));
    let reason = if failed { "Failed" } else { "Exported" };
    let conflicts = here.map(|here| here.merged.conflicts.as_slice()).unwrap_or_default();
    let conflict = match (here, make.known("Conflict")) {
        // Not all that it was made from is known yet.
        (Some(here), Some(known)) if !here.held.is_empty() => known.clone(),
        (Some(here), _) if !conflicts.is_empty() => {
            let message = conflicts::message(conflicts, &here.merged.oldest, here.constituents.len());
            make.make("Conflict", true, &conflicts::reasons(conflicts), message)
        }
        _ => make.make("Conflict", false, "NoConflicts", ""),
    };
    let valid = make.make("Valid", true, "Valid", "");
    ServiceExportStatus { conditions: vec![valid, make.make("Ready", !failed, reason, said.join("; ")), conflict] }
}
