//! Names as the configuration matches them: all, one, or those under one.
//!
//! ```text
//! pattern = "*" / domain / "*." domain
//! ```
//!
//! Invariant: the names are in the form in which they are looked up: lower case, A-labels, no dot at the end.

use std::fmt;

/// Which domains or hosts are meant. The order is that of how exact they are, the least exact first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Pattern {
    #[default]
    Any,
    /// Those under this name, but not the name itself; with the dot in front.
    Under(Suffix),
    Exactly(String),
}

/// The end of a name, ordered by length first: the longer, the more exact.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Suffix {
    labels: usize,
    text: String,
}

impl Pattern {
    /// `domain` is without the `*.`.
    pub fn under(domain: &str) -> Self {
        Self::Under(Suffix { labels: domain.split('.').count(), text: format!(".{domain}") })
    }

    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Under(suffix) => name.len() > suffix.text.len() && name.ends_with(&suffix.text),
            Self::Exactly(known) => known == name,
        }
    }

    /// Every host of an MX set must: one that the owner of a domain adds by the way shall not decide.
    pub fn matches_all<T: AsRef<str>>(&self, hosts: &[T]) -> bool {
        *self == Self::Any || (!hosts.is_empty() && hosts.iter().all(|host| self.matches(host.as_ref())))
    }

    pub fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Under(suffix) => write!(f, "*{}", suffix.text),
            Self::Exactly(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn what_matches() {
        let under = Pattern::under("google.com");
        let exactly = Pattern::Exactly("google.com".to_owned());
        let table = [
            ("google.com", false, true),
            ("mx.google.com", true, false),
            ("a.b.google.com", true, false),
            (".google.com", false, false),
            ("notgoogle.com", false, false),
            ("google.com.example", false, false),
        ];
        for (name, is_under, is_same) in table {
            assert_eq!((under.matches(name), exactly.matches(name)), (is_under, is_same), "{name}");
            assert!(Pattern::Any.matches(name));
        }
        assert!(under.matches_all(&["a.google.com", "b.google.com"]));
        assert!(!under.matches_all(&["a.google.com", "mx.example"]));
        assert!(!under.matches_all::<&str>(&[]) && Pattern::Any.matches_all::<&str>(&[]));
    }

    #[test]
    fn the_more_exact_is_greater() {
        let order = [
            Pattern::Any,
            Pattern::under("example"),
            Pattern::under("a.example"),
            Pattern::Exactly("example".to_owned()),
        ];
        assert!(order.is_sorted());
        assert_eq!(order.map(|pattern| pattern.to_string()), ["*", "*.example", "*.a.example", "example"]);
    }
}
