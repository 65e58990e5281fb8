//! ● In what the exports of a service disagree, and how that is told.

use isthmus_control_api::ClusterName;

/// A field in which they disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Ports,
    Type,
    SessionAffinity,
    SessionAffinityConfig,
    Labels,
    Annotations,
    InternalTrafficPolicy,
    TrafficDistribution,
}

/// A disagreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) field: Field,
    /// What holds, in words.
    pub(super) using: String,
    /// How many clusters have something else.
    pub(super) disagree: usize,
}

impl Field {
    /// The reason of the condition.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Ports => "PortConflict",
            Self::Type => "TypeConflict",
            Self::SessionAffinity => "SessionAffinityConflict",
            Self::SessionAffinityConfig => "SessionAffinityConfigConflict",
            Self::Labels => "LabelsConflict",
            Self::Annotations => "AnnotationsConflict",
            Self::InternalTrafficPolicy => "InternalTrafficPolicyConflict",
            Self::TrafficDistribution => "TrafficDistributionConflict",
        }
    }

    /// The field's name.
    const fn name(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Type => "type",
            Self::SessionAffinity => "sessionAffinity",
            Self::SessionAffinityConfig => "sessionAffinityConfig",
            Self::Labels => "exportedLabels",
            Self::Annotations => "exportedAnnotations",
            Self::InternalTrafficPolicy => "internalTrafficPolicy",
            Self::TrafficDistribution => "trafficDistribution",
        }
    }
}

/// The reasons, joined by commas.
pub(super) fn reasons(conflicts: &[Conflict]) -> String {
    let reasons: Vec<_> = conflicts.iter().map(|conflict| conflict.field.reason()).collect();
    reasons.join(",")
}

/// A sentence for each: field, what holds, whose it is, and how many have it otherwise.
pub(super) fn message(conflicts: &[Conflict], oldest: &ClusterName, clusters: usize) -> String {
    let sentence = |Conflict { field, using, disagree }: &Conflict| {
        let verb = if *disagree == 1 { "disagrees" } else { "disagree" };
        let field = field.name();
        format!(
            "{field}: Using {using} from the oldest export, in cluster \"{oldest}\"; {disagree} of {clusters} clusters {verb}."
        )
    };
    conflicts.iter().map(sentence).collect::<Vec<_>>().join(" ")
}
