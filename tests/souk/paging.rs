//! Lists in pages: ten to a page unless asked otherwise, links that keep the query and can be followed to the
//! end and back, and page numbers that lead nowhere.

use std::collections::BTreeSet;

use crate::harness::{Answer, Shop, escaped};

/// A shop with this many products, all alike.
async fn shop_of(count: usize) -> Shop {
    let shop = Shop::start().await;
    for number in 1..=count {
        shop.product(&format!("Lamp & shade {number:03}")).price("5.00").create().await;
    }
    shop
}

#[tokio::test]
async fn a_list_comes_in_pages_of_ten() {
    let shop = shop_of(23).await;
    let first = shop.anyone().get("/api/products/").await.is(200);
    assert_eq!((first.count(), first.results().len()), (23, 10), "{first}");
    assert!(first["previous"].is_null() && first["next"].is_string(), "{first}");
    let third = shop.anyone().get("/api/products/?page=3").await.is(200);
    assert_eq!((third.count(), third.results().len()), (23, 3), "{third}");
    assert!(third["next"].is_null() && third["previous"].is_string(), "{third}");
    let five = shop.anyone().get("/api/products/?page_size=5&page=2").await.is(200);
    assert_eq!(five.column("id"), first.column("id")[5..], "{five}");
}

#[tokio::test]
async fn links_keep_the_query_and_lead_through_the_whole_list() {
    let shop = shop_of(23).await;
    let search = escaped("LAMP & 0");
    let path = format!("/api/products/?search={search}&ordering=price&page_size=4&colour=red&in_stock=true");
    let mut page = shop.anyone().get(&path).await.is(200);
    assert_eq!(page.count(), 23, "{page}");
    let mut seen = Vec::new();
    let mut pages: Vec<Answer> = Vec::new();
    loop {
        seen.extend(page.column("id"));
        pages.push(page.clone());
        let Some(next) = page["next"].as_str() else { break };
        assert!(next.starts_with(&format!("{}/api/products/?", shop.url())), "{page}");
        for kept in ["ordering=price", "page_size=4", "colour=red", "in_stock=true", "search="] {
            assert!(next.contains(kept), "`next` should keep {kept}\n{page}");
        }
        page = shop.anyone().get(next).await.is(200);
    }
    assert_eq!(pages.len(), 6);
    assert_eq!(seen.len(), 23, "each product once");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 23, "each product once");
    for (number, page) in pages.iter().enumerate().skip(1).rev() {
        let previous = page["previous"].as_str().unwrap_or_else(|| panic!("a link back\n{page}"));
        let back = shop.anyone().get(previous).await.is(200);
        assert_eq!(back.column("id"), pages[number - 1].column("id"), "{back}");
    }
}

#[tokio::test]
async fn a_page_that_is_not_there_is_not_found() {
    let shop = shop_of(11).await;
    let ada = shop.register("ada").await;
    for page in ["3", "0", "-1", "abc", "1.5", "99999999999999999999", "%00", "2%20"] {
        let answer = shop.anyone().get(&format!("/api/products/?page={page}")).await;
        // Python's int() would strip the blank; a stricter reader need not.
        if page == "2%20" && answer.status == 200 {
            continue;
        }
        answer.is(404).has_detail("Invalid page.");
    }
    for path in ["/api/orders/", "/auth/api/orders/", "/api/notifications/"] {
        let empty = ada.get(path).await.is(200);
        assert_eq!((empty.count(), empty.results().len()), (0, 0), "{empty}");
        assert!(empty["next"].is_null() && empty["previous"].is_null(), "{empty}");
        ada.get(&format!("{path}?page=1")).await.is(200);
        ada.get(&format!("{path}?page=2")).await.is(404).has_detail("Invalid page.");
    }
}

#[tokio::test]
async fn a_page_holds_at_most_a_hundred() {
    let shop = shop_of(103).await;
    for size in ["100", "101", "1000", "99999999999999999999"] {
        let answer = shop.anyone().get(&format!("/api/products/?page_size={size}")).await;
        if answer.status == 200 {
            assert!(answer.results().len() <= 100, "{answer}");
        } else {
            answer.refused_properly();
        }
    }
    let full = shop.anyone().get("/api/products/?page_size=100").await.is(200);
    assert_eq!(full.results().len(), 100, "{full}");
    for size in ["0", "-1", "abc", ""] {
        let answer = shop.anyone().get(&format!("/api/products/?page_size={size}")).await;
        assert!([200, 400, 404].contains(&answer.status), "{answer}");
        if answer.status == 200 {
            assert_eq!(answer.results().len(), 10, "the default\n{answer}");
        }
    }
}
