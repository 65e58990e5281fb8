//! Workloads: whose an address is.

use crate::{InvalidName, names};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// Whose an address is, as far as Kubernetes or the configuration knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// As whom it acts.
    pub account: ServiceAccount,
    /// Which pod it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
}

/// A service account, `namespace/name`: the namespace a DNS label, the name a DNS subdomain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceAccount {
    text: Arc<str>,
    slash: u8,
}

/// A pod's name without its namespace: a DNS subdomain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodName(Arc<str>);

impl ServiceAccount {
    /// `namespace/name`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.text[..usize::from(self.slash)]
    }

    /// Its own part.
    pub fn name(&self) -> &str {
        &self.text[usize::from(self.slash) + 1..]
    }
}

impl PodName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceAccount {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let fits = |(namespace, name): &(&str, &str)| names::is_label(namespace) && names::is_subdomain(name);
        let (namespace, _) = s
            .split_once('/')
            .filter(fits)
            .ok_or_else(|| names::invalid(s, "a service account: namespace/name, a DNS label and a DNS subdomain"))?;
        // A label has at most 63 bytes.
        Ok(Self { text: s.into(), slash: u8::try_from(namespace.len()).unwrap_or(u8::MAX) })
    }
}

impl FromStr for PodName {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        names::check(s, names::is_subdomain(s), "a pod's name: a DNS subdomain of at most 253 bytes")?;
        Ok(Self(s.into()))
    }
}

macro_rules! text_form {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(s: String) -> Result<Self, InvalidName> {
                s.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().into()
            }
        }
    )*};
}
text_form!(ServiceAccount, PodName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_its_two_parts() {
        let account: ServiceAccount = "shop/web.v2".parse().unwrap();
        assert_eq!(
            (account.namespace(), account.name(), account.to_string()),
            ("shop", "web.v2", "shop/web.v2".into())
        );
        for bad in ["", "shop", "/web", "shop/", "shop/a/b", "sh.op/web", "shop/Web", "shop/a..b"] {
            assert!(bad.parse::<ServiceAccount>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pods_name_is_a_subdomain() {
        assert_eq!("web-7d9f.x".parse::<PodName>().unwrap().as_str(), "web-7d9f.x");
        for bad in ["", "-a", "a b", "a,b", "a\n", &"a".repeat(254)] {
            assert!(bad.parse::<PodName>().is_err(), "{bad:?}");
        }
    }
}
