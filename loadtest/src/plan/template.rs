//! Names in turn: `user%d@example.org` is `user0@example.org` and so on; or those of a list.

use std::io::Write;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// A number between two texts, from 0 below the count.
    Counted(String, String, u64),
    /// At least one.
    Listed(Arc<Vec<String>>),
}

impl Template {
    /// Numbers run from 0 below `count`.
    pub fn new(text: &str, count: u64) -> Self {
        match text.split_once("%d") {
            Some((before, after)) => Self::Counted(before.to_owned(), after.to_owned(), count.max(1)),
            None => Self::Listed(Arc::new(vec![text.to_owned()])),
        }
    }

    /// As smtp-source's `-N` counts: behind the local part.
    pub fn numbered(address: &str, count: u64) -> Self {
        match address.rsplit_once('@') {
            Some((local, domain)) => Self::new(&format!("{local}%d@{domain}"), count),
            None => Self::new(&format!("{address}%d"), count),
        }
    }

    pub fn write(&self, number: u64, out: &mut Vec<u8>) {
        match self {
            Self::Counted(before, after, count) => {
                write!(out, "{before}{}{after}", number % count).expect("a Vec takes everything");
            }
            Self::Listed(names) => {
                let name = names.get((number % names.len().max(1) as u64) as usize);
                out.extend_from_slice(name.map_or(&[], |name| name.as_bytes()));
            }
        }
    }

    pub fn name(&self, number: u64) -> String {
        let mut name = Vec::new();
        self.write(number, &mut name);
        String::from_utf8(name).expect("the parts are text")
    }
}

#[cfg(test)]
mod tests {
    use super::Template;

    #[test]
    fn numbers_stand_where_they_should() {
        assert_eq!(Template::new("user%d@a.test", 10).name(13), "user3@a.test");
        assert_eq!(Template::new("me@a.test", 10).name(13), "me@a.test");
        assert_eq!(Template::numbered("me@a.test", 100).name(13), "me13@a.test");
    }
}
