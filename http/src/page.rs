//! Pages of lists: which one a request asks for, and its answer with links that keep the rest of the query.

use salvo::Request;
use serde::Serialize;

use crate::error::ApiError;
use crate::extract::base_url;

/// Entries of a page if the request does not say.
const DEFAULT_SIZE: i64 = 10;
/// The most entries of a page; a request for more gets this many.
const MAX_SIZE: i64 = 100;

/// The page that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PageQuery {
    number: i64,
    size: i64,
}

impl PageQuery {
    /// Reads `page` (404 if it is no number from 1) and `page_size` (10 if it is none).
    pub(crate) fn of(req: &Request) -> Result<Self, ApiError> {
        let last =
            |name: &str| req.queries().get_vec(name).and_then(|values| values.last()).map(|text| text.trim());
        let number = match last("page") {
            None | Some("") => 1,
            Some(text) => positive(text).ok_or_else(ApiError::invalid_page)?,
        };
        let size = last("page_size").and_then(positive).unwrap_or(DEFAULT_SIZE).min(MAX_SIZE);
        Ok(Self { number, size })
    }

    /// How many entries it has at most.
    pub(crate) fn limit(self) -> i64 {
        self.size
    }

    /// How many entries come before it.
    pub(crate) fn offset(self) -> i64 {
        (self.number - 1).saturating_mul(self.size)
    }

    /// The answer with these entries of a list of `count`; 404 if the list ends before this page.
    pub(crate) fn page<T: Serialize>(
        self,
        req: &Request,
        count: i64,
        results: Vec<T>,
    ) -> Result<Page<T>, ApiError> {
        let pages = (count.max(1) - 1) / self.size + 1;
        if self.number > pages {
            return Err(ApiError::invalid_page());
        }
        let next = (self.number < pages).then(|| page_url(req, self.number + 1));
        let previous = (self.number > 1).then(|| page_url(req, self.number - 1));
        Ok(Page { count, next, previous, results })
    }
}

/// Reads a whole number from 1; what is too long to be one is a very large one.
fn positive(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(i64::MAX)).filter(|number| *number > 0)
}

/// One page of a list, as answered.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    count: i64,
    next: Option<String>,
    previous: Option<String>,
    results: Vec<T>,
}

/// The absolute URL of another page of the same list; the first page goes without a number.
fn page_url(req: &Request, number: i64) -> String {
    let query = req.uri().query().unwrap_or_default();
    let mut parts: Vec<_> = query
        .split('&')
        .filter(|part| !part.is_empty() && !is_page_number(part))
        .map(str::to_owned)
        .collect();
    if number > 1 {
        parts.push(format!("page={number}"));
    }
    let mut url = format!("{}{}", base_url(req), req.uri().path());
    if !parts.is_empty() {
        url.push('?');
        url.push_str(&parts.join("&"));
    }
    url
}

fn is_page_number(part: &str) -> bool {
    part.split('=').next() == Some("page")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str) -> Request {
        let mut req = Request::default();
        req.set_uri(format!("http://shop.example:8000{uri}").parse().unwrap());
        req
    }

    fn page(uri: &str, count: i64) -> Result<serde_json::Value, ApiError> {
        let req = request(uri);
        let query = PageQuery::of(&req)?;
        Ok(serde_json::to_value(query.page(&req, count, Vec::<i64>::new())?).unwrap())
    }

    #[test]
    fn links_keep_every_other_parameter() {
        let page = page("/api/products/?search=a%20b&page=2&ordering=-price&page_size=5", 11).unwrap();
        let others = "search=a%20b&ordering=-price&page_size=5";
        assert_eq!(page["next"], format!("http://shop.example:8000/api/products/?{others}&page=3"));
        assert_eq!(page["previous"], format!("http://shop.example:8000/api/products/?{others}"));
        assert_eq!(page["count"], 11);
    }

    #[test]
    fn the_ends_of_a_list_have_no_further_link() {
        let only = page("/api/products/", 10).unwrap();
        assert_eq!((&only["next"], &only["previous"]), (&serde_json::Value::Null, &serde_json::Value::Null));
        assert!(page("/api/products/?page=1", 0).is_ok());
        assert_eq!(
            page("/api/products?page=2", 11).unwrap()["previous"],
            "http://shop.example:8000/api/products"
        );
    }

    #[test]
    fn what_is_no_page_is_not_found() {
        for query in
            ["page=2", "page=0", "page=-1", "page=x", "page=1.5", "page=99999999999999999999", "page=last"]
        {
            let error = page(&format!("/?{query}"), 10).unwrap_err();
            assert_eq!(error.status(), 404, "{query}");
        }
    }

    #[test]
    fn a_page_size_is_held_within_its_limits() {
        for (text, size) in
            [("5", 5), ("100", 100), ("1000", 100), ("0", 10), ("-3", 10), ("x", 10), ("", 10)]
        {
            let query = PageQuery::of(&request(&format!("/?page_size={text}"))).unwrap();
            assert_eq!(query.limit(), size, "{text}");
        }
        assert_eq!(PageQuery::of(&request("/?page=3&page_size=20")).unwrap().offset(), 40);
        let far = PageQuery::of(&request("/?page=9223372036854775807&page_size=100")).unwrap();
        assert_eq!(far.offset(), i64::MAX);
    }
}
