//! The document and the server agree: every route is told of, nothing else is, and every reference leads somewhere.

use std::collections::BTreeSet;

use salvo::http::Method;
use salvo::routing::FilterInfo;

use super::*;
use crate::openapi::Access;
use crate::testing::{TestShop, request};

/// Pages for people are no operations.
const PAGES: [&str; 3] = ["/", "/api/docs", "/api/docs/{}"];

/// The path without the names of its parts, which are the routes' own business, and without a slash at its end.
fn shape(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts
        .map(|part| if part.starts_with('{') { "/{}" } else { part })
        .fold(String::new(), |path, part| format!("{path}/{}", part.trim_start_matches('/')))
}

fn walk(router: &Router, path: &str, found: &mut BTreeSet<(String, String)>) {
    let (mut path, mut method) = (path.to_owned(), None);
    for filter in &router.filters {
        match filter.info() {
            FilterInfo::Path(part) => path = format!("{path}/{part}"),
            FilterInfo::Method(name) => method = Some(name),
            _ => {}
        }
    }
    if let (Some(method), true) = (method, router.goal.is_some()) {
        found.insert((method.as_str().to_lowercase(), shape(&path)));
    }
    for child in &router.routers {
        walk(child, &path, found);
    }
}

#[test]
fn the_document_tells_of_every_route_and_of_nothing_else() {
    let mut routes = BTreeSet::new();
    walk(&crate::routes(), "", &mut routes);
    let is_page = |path: &str| path.is_empty() || PAGES.contains(&path) || path.starts_with("/admin");
    routes.retain(|(_, path)| !is_page(path));
    assert!(routes.len() > 40, "the routes were not understood: {routes:#?}");
    let document = openapi();
    let paths = document["paths"].as_object().unwrap();
    let told: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(|method| (method.clone(), shape(path))))
        .collect();
    assert_eq!(routes.difference(&told).collect::<Vec<_>>(), [] as [&(String, String); 0], "not told of");
    assert_eq!(
        told.difference(&routes).collect::<Vec<_>>(),
        [] as [&(String, String); 0],
        "told of, but not there"
    );
    let count: usize = paths.values().map(|item| item.as_object().unwrap().len()).sum();
    assert_eq!(count, operations().len(), "an operation is told of twice");
}

#[test]
fn every_operation_says_how_it_fails() {
    for operation in operations() {
        let (method, path) = (operation.method, operation.path);
        let statuses: BTreeSet<u16> = operation.statuses().collect();
        assert!(statuses.iter().any(|status| *status < 300), "{method} {path} never succeeds");
        let mut expected = vec![429, 500, 503];
        if path.contains('{') {
            expected.push(404);
        }
        match operation.access {
            Access::Anybody => {}
            Access::Viewer | Access::User => expected.push(401),
            Access::Admin => expected.extend([401, 403]),
        }
        let document = operation.into_document();
        if document.get("requestBody").is_some() {
            expected.extend([400, 408, 413, 415]);
        }
        for status in expected {
            assert!(statuses.contains(&status), "{method} {path} may answer {status}");
        }
        assert!(document["summary"].is_string() && document["tags"].is_array(), "{method} {path}");
    }
}

/// Every text under this key, wherever it is.
fn find<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str() {
                    Some(text) if name == key => found.push(text),
                    _ => find(member, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| find(item, key, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_referred_to() {
    let document = openapi();
    let mut references = Vec::new();
    find(&document, "$ref", &mut references);
    for reference in &references {
        let place = reference.trim_start_matches('#');
        assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
    }
    for kind in ["schemas", "responses", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(references.contains(&reference.as_str()), "{reference} is not used");
        }
    }
    let mut names = Vec::new();
    find(&document["paths"], "operationId", &mut names);
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "operations share a name");
    let tags: BTreeSet<_> = TAGS.iter().map(|(name, _)| *name).collect();
    for item in
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values())
    {
        let tag = item["tags"][0].as_str().unwrap();
        assert!(tags.contains(tag), "no such tag: {tag}");
    }
}

#[tokio::test]
async fn pages_load_nothing_but_files_of_this_server_and_run_no_script_of_their_own() {
    let shop = TestShop::open().await;
    for path in ["/", "/api/docs/", "/api/docs"] {
        let mut response = request(Method::GET, path).send(&shop.service).await;
        assert_eq!(response.status_code, Some(StatusCode::OK), "{path}");
        let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(
            policy.contains("script-src 'self';") && policy.starts_with("default-src 'none'"),
            "{policy}"
        );
        let page = salvo::test::ResponseExt::take_string(&mut response).await.unwrap();
        assert!(!page.contains("http://") && !page.contains("https://"), "{path} leads elsewhere:\n{page}");
        assert!(!page.contains("<script>") && !page.contains("onclick"), "{path}:\n{page}");
        for link in page.split(['"']).filter(|text| text.starts_with("/api/docs/") && text.contains('.')) {
            let file = shop.get(link, "").await.is(200);
            assert!(!file.header("content-type").is_empty(), "{link}");
        }
    }
    let script = shop.get("/api/docs/swagger-ui-bundle.js", "").await.is(200);
    assert!(script.response.headers().get("content-type").unwrap().to_str().unwrap().contains("javascript"));
    shop.get("/api/docs/index.html", "").await.is(404);
    shop.get("/api/docs/..%2fsecret", "").await.is(404);
    shop.close().await;
}

#[tokio::test]
async fn the_document_is_not_sent_twice_to_whoever_has_it() {
    let shop = TestShop::open().await;
    let first = shop.get("/api/schema/", "").await.is(200);
    assert_eq!(first.json, openapi());
    assert_eq!(first.json["openapi"], "3.1.0");
    let etag = first.header("etag").to_owned();
    let again = request(Method::GET, "/api/schema/").add_header("if-none-match", etag.as_str(), true);
    let again = again.send(&shop.service).await;
    assert_eq!(again.status_code, Some(StatusCode::NOT_MODIFIED));
    shop.close().await;
}
