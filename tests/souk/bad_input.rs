//! Everything that can be wrong with what is sent, at every place that takes something: a refusal in the
//! contract's shape or, where the value is fine after all, a success; never a 5xx, and nothing stored by
//! half.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Product, Shop, Shopper, escaped};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Text that may not be blank.
    Name,
    Text,
    Count,
    Money,
    Flag,
    /// May be null.
    Date,
    Id,
}

impl Kind {
    /// Values that no reading of the contract can take, and that have to be blamed on the field.
    fn surely_bad(self) -> Vec<Value> {
        let mut values = vec![json!([]), json!({}), json!([[]]), nested(40), json!("a\u{0}b")];
        if self != Self::Date {
            values.push(json!(null));
        }
        values.extend(match self {
            Self::Name => vec![json!(""), json!(" \t\n "), json!(true), json!(["x"])],
            Self::Text => vec![json!(true), json!(["x"]), json!({ "x": "y" })],
            Self::Count | Self::Id => vec![
                json!("abc"),
                json!(1.5),
                json!(-1),
                json!(1e300),
                json!("💡"),
                json!(true),
                json!("9".repeat(40)),
                json!([1]),
            ],
            Self::Money => {
                vec![json!("abc"), json!(-1), json!(1e300), json!("💡"), json!(true), json!("1.005")]
            }
            Self::Flag => vec![json!("perhaps"), json!(7), json!(1.5), json!("💡"), json!([true])],
            Self::Date => {
                vec![json!("soon"), json!("2000-13-01"), json!(20_000_101), json!(true), json!("💡")]
            }
        });
        values
    }
}

/// Values that are odd everywhere; some may be taken by some fields.
fn odd() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(-1e300),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(""),
        json!("   "),
        json!("\u{0}"),
        json!("💡👩‍👩‍👧‍👦"),
        json!("\u{202e}\u{feff}\u{fffd}"),
        json!("'; drop table products; --"),
        json!("{{7*7}}%s%n../../etc/passwd<script>"),
        json!("x".repeat(20_000)),
        json!("💡".repeat(5_000)),
        json!(["x", 1, null]),
        json!({ "$gt": "" }),
        nested(100),
    ]
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(
        json!("deep"),
        |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({ "a": inner }) },
    )
}

type Fields = &'static [(&'static str, Kind)];

/// Somewhere that takes a body. The number makes each body new, since some of what is sent is taken.
struct Place {
    who: Shopper,
    method: Method,
    path: String,
    body: Box<dyn Fn(u32) -> Value>,
    fields: Fields,
    required: &'static [&'static str],
}

impl Place {
    async fn send(&self, body: &Value) -> Answer {
        self.who.call(self.method.clone(), &self.path).json(body).send().await
    }
}

/// What can be counted in the shop, by everything that a write could leave behind.
async fn census(shop: &Shop, ada: &Shopper) -> Vec<Value> {
    let admin = shop.admin().await;
    let mut counts = Vec::new();
    for list in ["/auth/api/users/", "/api/categories/", "/api/products/", "/api/orders/"] {
        counts.push(json!(admin.get(list).await.is(200).count()));
    }
    counts.push(json!(ada.get("/api/notifications/").await.is(200).count()));
    counts.push(ada.cart().await["items"].clone());
    counts.push(ada.get("/auth/api/profile/").await.is(200).json);
    counts
}

async fn catalogue_places(shop: &Shop, lamp: &Product) -> Vec<Place> {
    const PRODUCT: Fields = &[
        ("name", Kind::Name),
        ("price", Kind::Money),
        ("category", Kind::Id),
        ("stock", Kind::Count),
        ("sku", Kind::Name),
        ("description", Kind::Text),
        ("featured", Kind::Flag),
        ("is_active", Kind::Flag),
    ];
    const CATEGORY: Fields = &[("name", Kind::Name), ("description", Kind::Text), ("is_active", Kind::Flag)];
    let admin = shop.admin().await;
    let category = shop.some_category().await;
    let product = move |number: u32| {
        json!({ "name": format!("Product {number}"), "price": "1.00", "category": category,
            "sku": format!("SKU-{number}") })
    };
    let place = |method: Method, path: &str, body: Box<dyn Fn(u32) -> Value>, fields, required| Place {
        who: admin.clone(),
        method,
        path: path.to_owned(),
        body,
        fields,
        required,
    };
    let named = |number: u32| json!({ "name": format!("Category {number}") });
    let stock = lamp.path_of("stock");
    let needed: &[&str] = &["name", "price", "category"];
    vec![
        place(Method::POST, "/api/products/", Box::new(product), PRODUCT, needed),
        place(Method::PUT, &lamp.path(), Box::new(product), PRODUCT, needed),
        place(Method::PATCH, &lamp.path(), Box::new(|_| json!({})), PRODUCT, &[]),
        place(Method::POST, "/api/categories/", Box::new(named), CATEGORY, &["name"]),
        place(Method::PUT, &format!("/api/categories/{category}/"), Box::new(named), CATEGORY, &["name"]),
        place(Method::PATCH, &format!("/api/categories/{category}/"), Box::new(|_| json!({})), CATEGORY, &[]),
        place(Method::POST, &stock, Box::new(|_| json!({ "was": 100 })), &[("stock", Kind::Count)], &[]),
        place(Method::POST, &stock, Box::new(|_| json!({ "stock": 100 })), &[("was", Kind::Count)], &[]),
    ]
}

fn account_places(shop: &Shop, ada: &Shopper) -> Vec<Place> {
    const REGISTER: Fields = &[
        ("email", Kind::Name),
        ("username", Kind::Name),
        ("password", Kind::Name),
        ("password_confirm", Kind::Name),
        ("first_name", Kind::Text),
        ("last_name", Kind::Text),
        ("phone", Kind::Text),
        ("address", Kind::Text),
        ("date_of_birth", Kind::Date),
    ];
    const PASSWORDS: Fields =
        &[("current_password", Kind::Name), ("password", Kind::Name), ("password_confirm", Kind::Name)];
    let place =
        |who: &Shopper, method: Method, path: &str, body: Box<dyn Fn(u32) -> Value>, fields, required| {
            Place { who: who.clone(), method, path: path.to_owned(), body, fields, required }
        };
    let papers = |number: u32| Shopper::papers(&format!("user{number}"));
    let login =
        |number: u32| json!({ "email": format!("nobody{number}@example.com"), "password": "Mango-Lute-19" });
    let change = |_| json!({ "current_password": "wrong", "password": "Mango-Lute-19", "password_confirm": "Mango-Lute-19" });
    let anyone = shop.anyone();
    let (token, refresh): (Fields, Fields) = (&[("token", Kind::Name)], &[("refresh", Kind::Name)]);
    vec![
        place(
            &anyone,
            Method::POST,
            "/auth/api/register/",
            Box::new(papers),
            REGISTER,
            &["email", "username", "password", "password_confirm"],
        ),
        place(
            &anyone,
            Method::POST,
            "/auth/api/token/",
            Box::new(login),
            &REGISTER[..1],
            &["email", "password"],
        ),
        place(&anyone, Method::POST, "/auth/api/token/refresh/", Box::new(|_| json!({})), refresh, &[]),
        place(&anyone, Method::POST, "/auth/api/token/verify/", Box::new(|_| json!({})), token, &[]),
        place(ada, Method::POST, "/auth/api/logout/", Box::new(|_| json!({})), refresh, &[]),
        place(
            ada,
            Method::POST,
            "/auth/api/password/",
            Box::new(change),
            PASSWORDS,
            &["current_password", "password", "password_confirm"],
        ),
        place(ada, Method::PATCH, "/auth/api/profile/", Box::new(|_| json!({})), &REGISTER[4..], &[]),
    ]
}

fn buying_places(ada: &Shopper, lamp: &Product) -> Vec<Place> {
    const ORDER: Fields = &[("shipping_address", Kind::Text), ("phone", Kind::Text), ("notes", Kind::Text)];
    let place = |path: &str, body: Box<dyn Fn(u32) -> Value>, fields, required| Place {
        who: ada.clone(),
        method: Method::POST,
        path: path.to_owned(),
        body,
        fields,
        required,
    };
    let product = lamp.id;
    let item = move |_| json!({ "product_id": product, "quantity": 1 });
    let (items, read): (Fields, Fields) =
        (&[("product_id", Kind::Id), ("quantity", Kind::Count)], &[("up_to", Kind::Count)]);
    vec![
        place("/api/cart/items/", Box::new(item), items, &["product_id"]),
        place("/api/orders/", Box::new(|_| json!({})), ORDER, &[]),
        // A mark of -1 reads nothing, which is no crime; so the mark has only odd values.
        place("/api/notifications/read/", Box::new(|_| json!({ "up_to": 1 })), &read[..0], &["up_to"]),
    ]
}

/// Sends everything to every field of these places.
async fn survive(shop: &Shop, ada: &Shopper, places: Vec<Place>) {
    let mut number = 0;
    for place in &places {
        let before = census(shop, ada).await;
        for &field in place.required {
            let mut body = (place.body)(number);
            body.as_object_mut().expect("a body").remove(field);
            place.send(&body).await.refuses_with(field, "This field is required.");
        }
        for &(field, kind) in place.fields {
            for value in kind.surely_bad() {
                let mut body = (place.body)(number);
                body[field] = value;
                place.send(&body).await.refuses(field);
            }
        }
        assert_eq!(census(shop, ada).await, before, "{} {} stored something", place.method, place.path);
    }
    for place in &places {
        let present = (place.body)(0);
        let known = place.fields.iter().map(|(field, _)| *field).chain(place.required.iter().copied());
        let names: Vec<&str> = known.chain(["surplus"]).collect();
        for field in names {
            for value in odd() {
                number += 1;
                let mut body = (place.body)(number);
                body[field] = value;
                proper(place.send(&body).await);
            }
            // The same field twice, the second time with another kind of value.
            for twice in ["\"x\"", "[]", "null", "1"] {
                number += 1;
                let mut text = (place.body)(number).to_string();
                text.pop();
                let comma = if text.ends_with('{') { "" } else { "," };
                let value = present.get(field).cloned().unwrap_or_else(|| json!("x"));
                let text = format!("{text}{comma}\"{field}\": {value}, \"{field}\": {twice}}}");
                let call = place.who.call(place.method.clone(), &place.path);
                proper(call.body("application/json", text).send().await);
            }
        }
    }
    shop.audit().await;
}

#[track_caller]
fn proper(answer: Answer) {
    if !(200..300).contains(&answer.status) {
        answer.refused_properly();
    }
}

#[tokio::test]
async fn the_catalogue_survives_whatever_is_sent() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(100).create().await;
    survive(&shop, &ada, catalogue_places(&shop, &lamp).await).await;
}

#[tokio::test]
async fn accounts_survive_whatever_is_sent() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    survive(&shop, &ada, account_places(&shop, &ada)).await;
    shop.anyone().signed_in_as(&ada.email, crate::harness::PASSWORD).await;
}

#[tokio::test]
async fn buying_survives_whatever_is_sent() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(1_000_000).create().await;
    ada.buy(&lamp, 1).await;
    ada.fill_cart(&lamp, 3).await;
    survive(&shop, &ada, buying_places(&ada, &lamp)).await;
    let order = ada.buy(&lamp, 1).await.id();
    let item = ada.put_in_cart(&lamp, 1).await.is(201).id();
    for value in odd() {
        let status = json!({ "status": value });
        let answer = shop.admin().await.patch(&format!("/api/orders/{order}/status/"), status).await;
        answer.refuses("status");
        proper(ada.put(&format!("/api/cart/items/{item}/"), json!({ "quantity": value })).await);
        proper(ada.patch(&format!("/api/cart/items/{item}/"), json!({ "quantity": value })).await);
    }
    assert_eq!(ada.get(&format!("/api/orders/{order}/")).await.is(200)["status"], "pending");
    shop.audit().await;
}

#[tokio::test]
async fn queries_survive_whatever_is_sent() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let category = shop.some_category().await;
    let lamp = shop.product("Lamp").create().await;
    ada.buy(&lamp, 1).await;
    let products = format!("/api/categories/{category}/products/");
    let filters = ["category", "price_min", "price_max", "in_stock", "featured", "search", "ordering"];
    let lists: [(&Shopper, &str, &[&str]); 8] = [
        (&ada, "/api/products/", &filters),
        (&ada, &products, &filters),
        (&ada, "/api/products/featured/", &filters),
        (&ada, "/api/categories/", &["search", "ordering"]),
        (&admin, "/api/orders/", &["status", "user", "ordering"]),
        (&ada, "/auth/api/orders/", &["status", "ordering"]),
        (&admin, "/auth/api/users/", &["search", "is_active", "is_admin", "ordering"]),
        (&ada, "/api/notifications/", &["unread"]),
    ];
    let long = "x".repeat(4_000);
    let values = [
        "%",
        "%zz",
        "%00",
        "%FF%FE",
        "%ED%A0%80",
        "&&==",
        "[]",
        "-0",
        "1e999",
        "%F0%9F%92%A1",
        "'",
        "+",
        &long,
    ];
    for (who, list, parameters) in lists {
        for parameter in parameters.iter().chain(&["page", "page_size"]) {
            for value in values {
                proper(who.get(&format!("{list}?{parameter}={value}")).await);
            }
            for value in odd().iter().filter_map(Value::as_str).filter(|value| value.len() < 5_000) {
                proper(who.get(&format!("{list}?{parameter}={}", escaped(value))).await);
            }
            proper(who.get(&format!("{list}?{parameter}=1&{parameter}=2&{parameter}[]=3")).await);
            proper(who.get(&format!("{list}?{parameter}")).await);
        }
    }
    let endless = format!("/api/products/?search={}", "x".repeat(100_000));
    if let Ok(answer) = ada.call(Method::GET, &endless).try_send().await {
        assert!(answer.status < 500, "{answer}");
    }
    for path in [
        "/api/products/%00/",
        "/api/products/%FF/",
        "/api/products/1%2F2/",
        "/api/products/💡/",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/media/..%2f..%2fsouk.db",
        "//",
        "/api//products/",
    ] {
        let answer = shop.anyone().get(path).await;
        assert!(answer.status < 500 && !answer.bytes.starts_with(b"SQLite"), "{answer}");
    }
    shop.anyone().get("/readyz").await.is(200);
}

#[tokio::test]
async fn headers_survive_whatever_is_sent() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").create().await;
    let values = ["", "💡", "\"", "W/", "*,*", "%00", "-1", &"x".repeat(7_000), "a=b;;;,,,", "\u{ff}"];
    for header in [
        "accept",
        "accept-encoding",
        "accept-language",
        "authorization",
        "cookie",
        "idempotency-key",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "origin",
        "range",
        "x-forwarded-for",
        "x-http-method-override",
        "x-request-id",
    ] {
        for value in values {
            for path in [lamp.path(), "/api/cart/".to_owned()] {
                let answer = ada.call(Method::GET, &path).header(header, value).send().await;
                assert!(answer.status < 500, "{header}: {value:?}\n{answer}");
            }
            let answer =
                ada.call(Method::POST, "/api/orders/").header(header, value).json(&json!({})).send().await;
            assert!((400..500).contains(&answer.status), "{header}: {value:?}\n{answer}");
        }
    }
    for kind in [
        "application/json; charset=latin-1",
        "application/json;;;",
        "json",
        "💡/💡",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
    ] {
        let answer = ada.call(Method::POST, "/api/cart/items/").body(kind, "--x\r\nnonsense").send().await;
        answer.refused_properly();
    }
}
