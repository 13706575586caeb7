//! What a stranger finds at the door: a page that leads on, the document of the API, and the page to try it.

use crate::harness::Shop;

#[tokio::test]
async fn the_document_is_printed_as_it_is_served() {
    let shop = Shop::start().await;
    let served = shop.anyone().get("/api/schema/").await.is(200);
    let printed = shop.souk(&["openapi"]).await.succeeds().out;
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(printed, served.json);
}

#[tokio::test]
async fn every_link_of_the_first_page_leads_somewhere() {
    let shop = Shop::start().await;
    let page = shop.anyone().get("/").await.is(200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let page = page.plain();
    let links: Vec<_> = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() > 8, "{links:?}");
    for link in links {
        let answer = shop.anyone().get(link).await;
        // Whoever is not signed in is sent to the door of the administration.
        assert!(matches!(answer.status, 200 | 302 | 303) || link == "/admin/", "{link}\n{answer}");
    }
    // A log for machines, as in production, has nothing beside it.
    let log = shop.log();
    let is_for_people = !log.lines().any(|line| line.starts_with('{'));
    assert_eq!(log.contains("/api/docs/"), is_for_people, "the start should name the documents:\n{log}");
}
