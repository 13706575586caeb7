//! CSV of products: a look at what it would do, each bad row by its line, and then all of it or nothing.

use reqwest::Method;

use crate::harness::{Answer, Browser, Form, Product, Shop, hidden, says};

const PAGE: &str = "/admin/products/import/";

/// Chooses a file and has it looked at.
async fn look(browser: &mut Browser, csv: &str) -> Answer {
    let form = Form::new().text("csrf", &browser.csrf(PAGE).await).file("file", csv.as_bytes());
    form.put_into(browser.call(Method::POST, PAGE)).send().await
}

/// What the button below a look sends.
async fn confirm(browser: &mut Browser, looked: &Answer, csv: &str) -> Answer {
    let form = Form::new().text("csrf", &hidden(looked, "csrf")).text("done", "yes");
    let form = form.text("shown", &hidden(looked, "shown")).text("text", csv);
    let answer = form.put_into(browser.call(Method::POST, PAGE)).send().await;
    browser.keep_cookies(&answer);
    answer
}

/// Looks at a file that can be imported, and imports it.
async fn import(browser: &mut Browser, csv: &str) -> Answer {
    let looked = look(browser, csv).await.is(200);
    confirm(browser, &looked, csv).await
}

#[tokio::test]
async fn a_file_is_looked_at_first_and_then_imported_as_a_whole() {
    let shop = Shop::start().await;
    let teas = shop.new_category("Teas").await;
    let assam = shop.product("Assam").category(teas).price("5.00").stock(3).with("sku", "T-1").create().await;
    shop.product("Ceylon").category(teas).price("6.00").stock(9).with("sku", "T-2").create().await;
    let mut browser = Browser::of_admin(&shop).await;
    let csv = "\u{feff}SKU,Name,Price,Stock,Category,Featured,id\r\n\
               T-1,,5.50,8,,true,77\r\n\
               T-2,Ceylon,6.00,9,teas,,\r\n\
               T-3,\"'=Darjeeling, first\nflush\",9.99,4,TEAS,,\r\n";
    let page = look(&mut browser, csv).await.is(200);
    for text in
        ["1 new, 1 changed, 1 as they are", "price: 5.00 → 5.50", "stock: 3 → 8", "featured: false → true"]
    {
        says(&page, text);
    }
    assert_eq!(shop.anyone().get("/api/products/").await.is(200).count(), 2, "nothing was done");
    let done = confirm(&mut browser, &page, csv).await;
    says(&browser.follow(done).await, "1 product created, 1 changed.");
    let now = shop.anyone().get(&assam.path()).await.is(200);
    assert_eq!((now.text("name"), now.text("price"), &now["stock"]), ("Assam", "5.50", &8.into()));
    let new = shop.anyone().get("/api/products/?search=darjeeling").await.is(200).results()[0].clone();
    assert_eq!(new["name"], "=Darjeeling, first\nflush");
    says(&browser.get("/admin/history/?kind=product").await.is(200), "<ins>5.50</ins>");
    // What is there already is nothing to import.
    let again = look(&mut browser, csv).await.is(200);
    says(&again, "nothing to import");
    shop.audit().await;
}

#[tokio::test]
async fn each_bad_row_is_told_by_its_line_and_nothing_is_done() {
    let shop = Shop::start().await;
    shop.new_category("Teas").await;
    let mut browser = Browser::of_admin(&shop).await;
    let csv = "sku,name,price,stock,category\n\
               T-1,Good,1.00,1,Teas\n\
               T-2,,1.999,-1,Teas\n\
               T-1,Twice,1.00,1,Teas\n\
               ,No SKU,1.00,1,Teas\n\
               T-5,No such,1.00,1,Coffees\n";
    let page = look(&mut browser, csv).await.is(400);
    for text in [
        "4 rows cannot be imported, so nothing will be",
        "name: This field is required.",
        "price: Ensure that there are no more than 2 decimal places.",
        "stock: Ensure this value is greater than or equal to 0.",
        "sku: Line 2 has the same.",
        "sku: This field may not be blank.",
        "category: No category is named “Coffees”.",
    ] {
        says(&page, text);
    }
    assert!(!page.plain().contains("Import them"), "{page}");
    // Nor is it if somebody says that he has seen it.
    let csrf = browser.csrf(PAGE).await;
    let form = Form::new().text("csrf", &csrf).text("done", "yes").text("text", csv);
    form.put_into(browser.call(Method::POST, PAGE)).send().await.is(409);
    assert_eq!(shop.anyone().get("/api/products/").await.is(200).count(), 0);
    for (csv, message) in [
        ("", "Choose a file"),
        ("sku,colour\n1,red\n", "There is no column “colour”."),
        ("name\nx\n", "The column “sku” is missing"),
        ("sku,sku\n1,2\n", "A column is there twice."),
        ("sku,name\n1\n", "Line 2 cannot be read"),
        ("sku,name\r\n\r\n\r\n1\r\n", "Line 4 cannot be read"),
        ("sku,name\r1,2\r\r1,2,3\r", "Line 4 cannot be read"),
        ("sku,name\n", "The file has no rows"),
    ] {
        says(&look(&mut browser, csv).await.is(400), message);
    }
    // The lines are those that an editor shows.
    let page = look(&mut browser, "sku,price\r\n\n\r\rT-1,1\nT-2,bad\r\n").await.is(400);
    says(&page, "<td data-label=\"Line\">6</td><td data-label=\"SKU\" class=\"long\">T-2</td>");
    let bad: String = (0..203).map(|number| format!("S{number},x\n")).collect();
    says(&look(&mut browser, &format!("sku,price\n{bad}")).await.is(400), "… and 3 more.");
    let many: String = (0..1001).map(|number| format!("S{number},x\n")).collect();
    says(&look(&mut browser, &format!("sku,name\n{many}")).await.is(400), "more than 1000 rows");
    let bytes = Form::new().text("csrf", &browser.csrf(PAGE).await).file("file", b"sku\n\xff\n");
    says(&bytes.put_into(browser.call(Method::POST, PAGE)).send().await.is(400), "is not UTF-8 text");
}

#[tokio::test]
async fn a_thousand_rows_are_one_change() {
    let shop = Shop::start().await;
    shop.new_category("Teas").await;
    let mut browser = Browser::of_admin(&shop).await;
    let rows: String =
        (0..1000).map(|number| format!("S{number},Tea {number},1.00,{number},Teas\n")).collect();
    let csv = format!("sku,name,price,stock,category\n{rows}");
    import(&mut browser, &csv).await.is(303);
    assert_eq!(shop.anyone().get("/api/products/").await.is(200).count(), 1000);
    let dearer = csv.replace(",1.00,", ",2.00,");
    import(&mut browser, &dearer).await.is(303);
    assert_eq!(shop.anyone().get("/api/products/?price_min=2").await.is(200).count(), 1000);
    shop.audit().await;
}

#[tokio::test]
async fn an_import_undoes_no_sale_and_nothing_that_was_changed_after_the_look() {
    let shop = Shop::start().await;
    let assam = shop.product("Assam").price("10.00").stock(10).with("sku", "T-1").create().await;
    let ceylon = shop.product("Ceylon").price("6.00").stock(5).with("sku", "T-2").create().await;
    let mut browser = Browser::of_admin(&shop).await;
    let of = async |product: &Product| {
        let now = shop.anyone().get(&product.path()).await.is(200);
        (now.text("name").to_owned(), now.text("price").to_owned(), now["stock"].as_i64().unwrap())
    };
    // The look says nothing of the stock, and then units are sold.
    let csv = "sku,price,stock\nT-1,12.00,10\n";
    let looked = look(&mut browser, csv).await.is(200);
    says(&looked, "price: 10.00 → 12.00");
    let shopper = shop.register("ada").await;
    shopper.buy(&assam, 3).await.is(201);
    let again = confirm(&mut browser, &looked, csv).await.is(409);
    says(&again, "changed meanwhile");
    says(&again, "stock: 7 → 10");
    assert_eq!(of(&assam).await, ("Assam".to_owned(), "10.00".to_owned(), 7));
    // What is seen now may be done, and without a level a sale changes nothing.
    let csv = "sku,price\nT-1,12.00\n";
    let looked = look(&mut browser, csv).await.is(200);
    shopper.buy(&assam, 1).await.is(201);
    confirm(&mut browser, &looked, csv).await.is(303);
    assert_eq!(of(&assam).await, ("Assam".to_owned(), "12.00".to_owned(), 6));
    // A row that was to change nothing changes nothing.
    let csv = "sku,name,price\nT-1,Assam,13.00\nT-2,Ceylon,6.00\n";
    let looked = look(&mut browser, csv).await.is(200);
    says(&looked, "0 new, 1 changed, 1 as they are");
    let renamed = serde_json::json!({"name": "Ceylon, first", "price": "7.00"});
    shop.admin().await.patch(&ceylon.path(), renamed).await.is(200);
    let again = confirm(&mut browser, &looked, csv).await.is(409);
    says(&again, "name: Ceylon, first → Ceylon");
    assert_eq!(of(&ceylon).await, ("Ceylon, first".to_owned(), "7.00".to_owned(), 5));
    confirm(&mut browser, &again, csv).await.is(303);
    assert_eq!(of(&ceylon).await, ("Ceylon".to_owned(), "6.00".to_owned(), 5));
    shop.audit().await;
}

#[tokio::test]
async fn a_quotation_mark_that_is_never_closed_swallows_nothing() {
    let shop = Shop::start().await;
    let teas = shop.new_category("Teas").await;
    shop.product("Assam").category(teas).price("1.00").with("sku", "T-1").create().await;
    let mut browser = Browser::of_admin(&shop).await;
    for (csv, line) in [
        ("sku,price,description\nT-1,5,x\nT-2,6,\"19\"\" rack\nT-3,7,y\n", 3),
        ("sku,description,price\n\nT-1,\"abc,5\nT-2,x,6\n", 3),
        ("sku,description\nT-1,\"", 2),
        ("sku,\"description\nT-1,x\n", 1),
    ] {
        let page = look(&mut browser, csv).await.is(400);
        says(&page, &format!("A quotation mark in the record that begins in line {line} is never closed"));
    }
    // Within a cell, or closed, it is one like others.
    let csv = "sku,description,price\nT-1,19\" rack \"deep\",5\n\n\n";
    says(&look(&mut browser, csv).await.is(200), "1 changed");
    says(&look(&mut browser, "sku,description\nT-1,\"a \"\"b\"\"\nc\"").await.is(200), "1 changed");
}

#[tokio::test]
async fn what_can_be_looked_at_can_be_imported_however_many_lines_it_has() {
    let shop = Shop::start().await;
    shop.new_category("Teas").await;
    let mut browser = Browser::of_admin(&shop).await;
    let of_lines = |count: usize| {
        let description = format!("a{}b", "\n".repeat(9_990));
        let rows: String = (0..count).map(|row| format!("T-{row},Tea,1,Teas,\"{description}\"\n")).collect();
        format!("sku,name,price,category,description\n{rows}")
    };
    says(&look(&mut browser, &of_lines(80)).await.is(400), "larger than 900 KiB");
    let csv = of_lines(45);
    let looked = look(&mut browser, &csv).await.is(200);
    // As a browser sends it.
    confirm(&mut browser, &looked, &csv.replace('\n', "\r\n")).await.is(303);
}
