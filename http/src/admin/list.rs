//! Lists: which page of one is asked for, links to the others, links that change one thing about the list, and what was
//! ticked in one.

use std::str::FromStr;

use salvo::Request;

use super::form::Form;
use super::page::{Flash, Page};

/// Entries of a page.
const SIZE: i64 = 25;

/// The most entries that something is done to at once.
const MOST_AT_ONCE: usize = 200;

/// The page of a list that a request asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paging {
    number: i64,
}

impl Paging {
    /// Reads `page`; what is no number from 1 is the first.
    pub(super) fn of(req: &Request) -> Self {
        let number = req.query::<i64>("page").filter(|number| (1..=i64::MAX / SIZE).contains(number));
        Self { number: number.unwrap_or(1) }
    }

    pub(super) fn limit(self) -> i64 {
        SIZE
    }

    pub(super) fn offset(self) -> i64 {
        (self.number - 1) * SIZE
    }

    /// Where to look instead, if the list has become shorter than that.
    pub(super) fn beyond(self, req: &Request, count: i64) -> Option<Page> {
        let pages = (count.max(1) - 1) / SIZE + 1;
        (self.number > pages).then(|| {
            Page::see(&format!("{}{}", req.uri().path(), link(req, &[("page", &pages.to_string())])))
        })
    }

    /// What to show below a list of `count` entries.
    pub(super) fn pager(self, req: &Request, count: i64) -> Pager {
        let to = |number: i64| {
            link(req, &[("page", if number > 1 { number.to_string() } else { String::new() }.as_str())])
        };
        let last = (self.offset() + SIZE).min(count);
        Pager {
            first: (self.offset() + 1).min(count),
            last,
            count,
            previous: (self.number > 1).then(|| to(self.number - 1)),
            next: (last < count).then(|| to(self.number + 1)),
        }
    }
}

/// What stands below a list.
pub(super) struct Pager {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) count: i64,
    pub(super) previous: Option<String>,
    pub(super) next: Option<String>,
}

/// The request's query with some parameters changed; those that become empty go. Begins with `?`.
pub(super) fn link(req: &Request, changes: &[(&str, &str)]) -> String {
    let query = req.uri().query().unwrap_or_default();
    let mut serializer = form_urlencoded::Serializer::new("?".to_owned());
    let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if !is_changed(&name) && !value.is_empty() {
            serializer.append_pair(&name, &value);
        }
    }
    for (name, value) in changes.iter().filter(|(_, value)| !value.is_empty()) {
        serializer.append_pair(name, value);
    }
    serializer.finish().replacen("?&", "?", 1)
}

/// The filters of a list: a form that is sent as a query.
pub(super) fn filters(req: &Request) -> Form {
    let query = req.uri().query().unwrap_or_default();
    Form::parse(query.as_bytes())
}

/// The list that a form was sent from, with its filters.
pub(super) fn back_to(list: &str, form: &Form) -> String {
    let query = form.text("back");
    format!("{list}{}", if query.starts_with('?') { query } else { "" })
}

/// The entries that were ticked, each once; or why nothing can be done to them. `kind` is what one is called, and what its
/// box is named, `done` what would have been done.
pub(super) fn chosen<Id: FromStr + Ord>(form: &Form, kind: &str, done: &str) -> Result<Vec<Id>, Flash> {
    let mut chosen: Vec<Id> = form.all(kind).filter_map(|id| id.parse().ok()).collect();
    chosen.sort_unstable();
    chosen.dedup();
    if chosen.is_empty() {
        return Err(Flash::warning(format!("No {kind} was chosen: tick those that it is about.")));
    }
    if chosen.len() > MOST_AT_ONCE {
        return Err(Flash::warning(format!("At most {MOST_AT_ONCE} {kind}s can be {done} at once.")));
    }
    Ok(chosen)
}

/// One of the choices of a field.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) label: String,
}

impl Choice {
    pub(super) fn new(value: impl Into<String>, label: impl Into<String>) -> Self {
        Self { value: value.into(), label: label.into() }
    }

    /// The choices of a filter by something that is so or is not.
    pub(super) fn of_filter(any: &str, yes: &str, no: &str) -> [Self; 3] {
        [Self::new("", any), Self::new("true", yes), Self::new("false", no)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &str) -> Request {
        let mut req = Request::default();
        req.set_uri(format!("http://shop.example/admin/orders/?{query}").parse().unwrap());
        req
    }

    #[test]
    fn links_keep_the_filters_and_change_what_they_are_for() {
        let req = request("status=pending&customer=&search=a+b%26c&page=2");
        assert_eq!(link(&req, &[("page", "3")]), "?status=pending&search=a+b%26c&page=3");
        assert_eq!(link(&req, &[("page", ""), ("status", "shipped")]), "?search=a+b%26c&status=shipped");
        assert_eq!(link(&request(""), &[]), "?");
    }

    #[test]
    fn a_pager_leads_on_and_back_and_not_beyond() {
        let pager = |query: &str, count| Paging::of(&request(query)).pager(&request(query), count);
        let middle = pager("page=2", 60);
        assert_eq!((middle.first, middle.last), (26, 50));
        assert_eq!((middle.previous.as_deref(), middle.next.as_deref()), (Some("?"), Some("?page=3")));
        let none = pager("", 0);
        assert_eq!((none.first, none.last, none.next.is_some()), (0, 0, false));
        for page in ["0", "-1", "x", "99999999999999999999"] {
            assert_eq!(Paging::of(&request(&format!("page={page}"))).offset(), 0, "{page}");
        }
        assert!(Paging::of(&request("page=3")).beyond(&request("page=3"), 50).is_some());
        assert!(Paging::of(&request("page=2")).beyond(&request("page=2"), 50).is_none());
    }
}
