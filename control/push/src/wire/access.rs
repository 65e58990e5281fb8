//! Whose addresses are, and access policies.

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Source {
    #[prost(string, tag = "1")]
    pub(crate) cidr: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<SourceValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SourceValue {
    #[prost(string, tag = "1")]
    pub(crate) account: String,
    #[prost(string, tag = "2")]
    pub(crate) pod: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Policy {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<PolicyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PolicyValue {
    #[prost(string, repeated, tag = "1")]
    pub(crate) services: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) ports: Vec<String>,
    #[prost(bool, tag = "3")]
    pub(crate) dry_run: bool,
    #[prost(message, repeated, tag = "4")]
    pub(crate) rules: Vec<PolicyRule>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PolicyRule {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(enumeration = "Action", tag = "2")]
    pub(crate) action: i32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) from: Vec<SourceMatch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Action {
    Unspecified = 0,
    Allow = 1,
    Deny = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SourceMatch {
    #[prost(string, repeated, tag = "1")]
    pub(crate) clusters: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) namespaces: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) service_accounts: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) cidrs: Vec<String>,
}
