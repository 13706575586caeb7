//! Orders: placing one takes the whole cart or nothing, their steps and no others, cancelling, and who sees
//! which.

use serde_json::{Value, json};

use crate::harness::{Shop, Shopper};

const ORDER: [&str; 12] = [
    "created_at",
    "id",
    "items",
    "notes",
    "phone",
    "shipping_address",
    "status",
    "status_history",
    "total_items",
    "total_price",
    "updated_at",
    "user",
];

fn path(order: i64) -> String {
    format!("/api/orders/{order}/")
}

async fn cancel(who: &Shopper, order: i64) -> crate::harness::Answer {
    who.post(&format!("/api/orders/{order}/cancel/"), json!({})).await
}

#[tokio::test]
async fn an_order_takes_the_whole_cart() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").price("19.99").stock(20).with("sku", "LAMP-1").create().await;
    let soap = shop.product("Soap").price("0.10").stock(3).create().await;
    ada.fill_cart(&lamp, 2).await;
    ada.fill_cart(&soap, 3).await;
    shop.admin().await.patch(&lamp.path(), json!({ "price": "15.00" })).await.is(200);

    let body = json!({ "shipping_address": "12 St James's Square 💡", "phone": "+44 20", "notes": "Ring twice",
        "status": "delivered", "total_price": "0.01", "user": 999, "items": [] });
    let order = ada.post("/api/orders/", body).await.is(201);
    assert_eq!(order.refused_fields(), ORDER, "{order}");
    assert_eq!((&order["status"], &order["user"]), (&json!("pending"), &json!(ada.id)), "{order}");
    assert_eq!(
        (&order["total_items"], &order["total_price"]),
        (&json!(5), &json!("30.30")),
        "today's\n{order}"
    );
    assert_eq!(order["shipping_address"], "12 St James's Square 💡", "{order}");
    assert_eq!((&order["phone"], &order["notes"]), (&json!("+44 20"), &json!("Ring twice")), "{order}");
    let lines = order["items"].as_array().unwrap();
    assert_eq!(lines.len(), 2, "{order}");
    let line = lines.iter().find(|line| line["product"] == lamp.id).expect("the lamp's line");
    let mut fields: Vec<&String> = line.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["id", "price", "product", "product_name", "quantity", "sku", "subtotal"], "{order}");
    assert_eq!((&line["product_name"], &line["sku"]), (&json!("Lamp"), &json!("LAMP-1")), "{order}");
    assert_eq!((&line["price"], &line["subtotal"]), (&json!("15.00"), &json!("30.00")), "{order}");
    assert_eq!(line["quantity"], 2, "{order}");
    let history = order["status_history"].as_array().unwrap();
    assert_eq!((history.len(), &history[0]["status"]), (1, &json!("pending")), "{order}");
    assert!(history[0]["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{order}");

    assert_eq!((shop.stock_of(&lamp).await, shop.stock_of(&soap).await), (18, 0));
    assert_eq!(ada.cart().await["items"], json!([]));
    assert_eq!(ada.get(&path(order.id())).await.is(200).json, order.json);
    assert_eq!(ada.get("/api/orders/").await.is(200).results()[0], order.json);
    ada.checkout().await.is(400).has_detail("Cart is empty.");

    // The order keeps what it was sold as.
    let change = json!({ "name": "Lantern", "price": "1.00", "sku": "LANTERN" });
    shop.admin().await.patch(&lamp.path(), change).await.is(200);
    assert_eq!(ada.get(&path(order.id())).await.is(200)["items"], order["items"]);
    shop.audit().await;
}

#[tokio::test]
async fn an_order_needs_no_body_and_refuses_a_bad_one() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    ada.fill_cart(&lamp, 1).await;
    let bare = ada.call(reqwest::Method::POST, "/api/orders/").send().await.is(201);
    for field in ["shipping_address", "phone", "notes"] {
        assert_eq!(bare[field], "", "{bare}");
    }
    ada.fill_cart(&lamp, 1).await;
    for (field, value) in [
        ("shipping_address", json!(["x"])),
        ("shipping_address", json!("a\u{0}")),
        ("phone", json!({ "number": 1 })),
        ("notes", json!(true)),
    ] {
        let mut body = json!({ "shipping_address": "a" });
        body[field] = value;
        ada.post("/api/orders/", body).await.refuses(field);
    }
    assert_eq!(ada.get("/api/orders/").await.is(200).count(), 1);
    assert_eq!(ada.cart().await["total_items"], 1);
    assert_eq!(shop.stock_of(&lamp).await, 19);
    let anyone = shop.anyone();
    anyone.checkout().await.is(401);
}

#[tokio::test]
async fn too_little_stock_leaves_everything_as_it_was() {
    let shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let lamp = shop.product("Lamp").stock(5).create().await;
    let soap = shop.product("Soap").stock(5).create().await;
    let towel = shop.product("Towel").stock(5).create().await;
    for product in [&lamp, &soap, &towel] {
        ada.fill_cart(product, 4).await;
    }
    bea.buy(&lamp, 3).await;
    bea.buy(&soap, 5).await;
    let before = ada.cart().await;
    let refusal = ada.checkout().await.is(409).has_detail("Insufficient stock.");
    let mut items = refusal["items"].as_array().unwrap().clone();
    items.sort_by_key(|item| item["product"].as_i64());
    let expected = [
        json!({ "product": lamp.id, "requested": 4, "available": 2 }),
        json!({ "product": soap.id, "requested": 4, "available": 0 }),
    ];
    assert_eq!(items, expected, "{refusal}");
    assert_eq!(ada.cart().await["items"], before["items"], "the cart stays");
    assert_eq!(ada.get("/api/orders/").await.is(200).count(), 0);
    assert_eq!((shop.stock_of(&lamp).await, shop.stock_of(&towel).await), (2, 5));

    let line =
        before["items"].as_array().unwrap().iter().find(|item| item["product"]["id"] == soap.id).unwrap();
    ada.delete(&format!("/api/cart/items/{}/", line["id"])).await.is(204);
    shop.admin().await.post(&lamp.path_of("stock"), json!({ "change": 2 })).await.is(200);
    assert_eq!(ada.checkout().await.is(201)["total_items"], 8);
    assert_eq!((shop.stock_of(&lamp).await, shop.stock_of(&towel).await), (0, 1));
    shop.audit().await;
}

#[tokio::test]
async fn what_is_taken_off_the_shelf_is_not_sold() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let lamp = shop.product("Lamp").stock(5).create().await;
    ada.fill_cart(&lamp, 1).await;
    shop.admin().await.patch(&lamp.path(), json!({ "is_active": false })).await.is(200);
    ada.checkout().await.refused_properly();
    assert_eq!(ada.get("/api/orders/").await.is(200).count(), 0);
    assert_eq!(shop.admin().await.get(&lamp.path()).await.is(200)["stock"], 5);
    shop.audit().await;
}

#[tokio::test]
async fn an_order_goes_its_way_step_by_step() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").stock(20).create().await;
    let order = ada.buy(&lamp, 2).await.id();
    let history = |answer: &crate::harness::Answer| {
        let rows = answer["status_history"].as_array().expect("a history").clone();
        rows.iter().map(|row| row["status"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };

    let wrong = admin.set_status(order, "delivered").await.refuses("status");
    let message = wrong.messages("status").join(" ");
    assert!(message.contains("pending") && message.contains("delivered"), "both ends are named\n{wrong}");

    let shipped = admin.set_status(order, "shipped").await.is(200);
    assert_eq!((shipped.id(), &shipped["status"]), (order, &json!("shipped")), "{shipped}");
    assert_eq!(history(&shipped), ["pending", "shipped"], "{shipped}");
    assert_eq!(shipped.refused_fields(), ORDER, "{shipped}");
    let again = admin.set_status(order, "shipped").await.is(200);
    assert_eq!(history(&again), ["pending", "shipped"], "nothing happens\n{again}");
    assert_eq!(again["updated_at"], shipped["updated_at"], "nothing happens\n{again}");
    for wrong in ["pending", "cancelled"] {
        let answer = admin.set_status(order, wrong).await.refuses("status");
        let message = answer.messages("status").join(" ");
        assert!(message.contains("shipped") && message.contains(wrong), "both ends are named\n{answer}");
    }
    cancel(&ada, order).await.refuses("status");
    let delivered = admin.set_status(order, "delivered").await.is(200);
    assert_eq!(history(&delivered), ["pending", "shipped", "delivered"], "{delivered}");
    for wrong in ["pending", "shipped", "cancelled"] {
        admin.set_status(order, wrong).await.refuses("status");
    }
    admin.set_status(order, "delivered").await.is(200);
    assert_eq!(ada.get(&path(order)).await.is(200).json, delivered.json);
    assert_eq!(shop.stock_of(&lamp).await, 18);

    admin.set_status(order, "lost").await.refuses_with("status", "\"lost\" is not a valid choice.");
    let bare = admin.patch(&format!("/api/orders/{order}/status/"), json!({})).await;
    bare.refuses_with("status", "This field is required.");
    for bad in [json!(null), json!(""), json!(7), json!(["shipped"]), json!({}), json!("SHIPPED\u{0}")] {
        admin
            .patch(&format!("/api/orders/{order}/status/"), json!({ "status": bad }))
            .await
            .refuses("status");
    }
    admin.set_status(999_999, "shipped").await.is(404).has_detail("Not found.");
    shop.audit().await;
}

#[tokio::test]
async fn cancelling_puts_stock_back_once() {
    let shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").stock(5).create().await;
    let soap = shop.product("Soap").stock(5).create().await;
    ada.fill_cart(&lamp, 5).await;
    ada.fill_cart(&soap, 2).await;
    let order = ada.checkout().await.is(201).id();
    bea.put_in_cart(&lamp, 1).await.refuses("quantity");

    shop.anyone().post(&format!("/api/orders/{order}/cancel/"), json!({})).await.is(401);
    cancel(&bea, order).await.is(404).has_detail("Not found.");
    let cancelled = cancel(&ada, order).await.is(200);
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    assert_eq!(cancelled["status_history"].as_array().unwrap().len(), 2, "{cancelled}");
    assert_eq!((shop.stock_of(&lamp).await, shop.stock_of(&soap).await), (5, 5));
    // The present status again: nothing happens.
    cancel(&ada, order).await.is(200);
    admin.set_status(order, "cancelled").await.is(200);
    assert_eq!((shop.stock_of(&lamp).await, shop.stock_of(&soap).await), (5, 5));
    for wrong in ["shipped", "delivered", "pending"] {
        admin.set_status(order, wrong).await.refuses("status");
    }
    bea.buy(&lamp, 1).await;

    let second = ada.buy(&lamp, 2).await.id();
    assert_eq!(cancel(&admin, second).await.is(200)["status"], "cancelled");
    let third = ada.buy(&lamp, 2).await.id();
    admin.set_status(third, "cancelled").await.is(200);
    assert_eq!(shop.stock_of(&lamp).await, 4);
    cancel(&ada, 999_999).await.is(404).has_detail("Not found.");
    shop.audit().await;
}

#[tokio::test]
async fn orders_are_seen_by_their_owner_and_admins() {
    let shop = Shop::start().await;
    let (ada, bea) = (shop.register("ada").await, shop.register("bea").await);
    let admin = shop.admin().await;
    let lamp = shop.product("Lamp").price("3.00").stock(100).create().await;
    let own = ada.buy(&lamp, 1).await.id();
    let others = bea.buy(&lamp, 3).await.id();
    let last = ada.buy(&lamp, 2).await.id();
    admin.set_status(own, "shipped").await.is(200);

    bea.get(&path(own)).await.is(404).has_detail("Not found.");
    shop.anyone().get(&path(own)).await.is(401);
    shop.anyone().get("/api/orders/").await.is(401);
    admin.get(&path(own)).await.is(200);
    bea.set_status(own, "delivered").await.is(403);
    let refusal = ada.set_status(own, "delivered").await.is(403);
    refusal.has_detail("You do not have permission to perform this action.");
    shop.anyone().set_status(own, "delivered").await.is(401);

    let ids = |ids: &[i64]| ids.iter().map(i64::to_string).collect::<Vec<_>>();
    let list = async |who: &Shopper, query: &str| {
        who.get(&format!("/api/orders/?{query}")).await.is(200).column("id")
    };
    assert_eq!(list(&ada, "").await, ids(&[last, own]), "newest first");
    assert_eq!(list(&bea, "").await, ids(&[others]));
    assert_eq!(list(&admin, "").await, ids(&[last, others, own]));
    assert_eq!(list(&admin, &format!("user={}", ada.id)).await, ids(&[last, own]));
    assert_eq!(list(&admin, &format!("user={}&status=shipped", ada.id)).await, ids(&[own]));
    assert_eq!(list(&admin, "user=&status=").await.len(), 3);
    assert_eq!(list(&ada, "status=pending").await, ids(&[last]));
    assert_eq!(list(&ada, "status=delivered").await, ids(&[]));
    assert_eq!(list(&admin, "ordering=total_price").await, ids(&[own, last, others]));
    assert_eq!(list(&admin, "ordering=-total_price").await, ids(&[others, last, own]));
    assert_eq!(list(&admin, "ordering=created_at").await, ids(&[own, others, last]));
    // Nobody but an admin looks into another's orders by asking for them.
    let peeped = bea.get(&format!("/api/orders/?user={}", ada.id)).await;
    if peeped.status == 200 {
        assert!(peeped.results().iter().all(|order| order["user"] == bea.id), "{peeped}");
    }
    for (who, query, field) in [
        (&ada, "status=lost", "status"),
        (&ada, "status=%00", "status"),
        (&ada, "ordering=colour", "ordering"),
        (&ada, "ordering=name", "ordering"),
        (&admin, "user=ada", "user"),
        (&admin, "user=%00", "user"),
        (&admin, "user=1.5", "user"),
    ] {
        who.get(&format!("/api/orders/?{query}")).await.refuses(field);
    }
    let unknown = admin.get("/api/orders/?user=999999").await;
    assert!(unknown.status == 400 || unknown.count() == 0, "{unknown}");
    let paged = admin.get("/api/orders/?page_size=2&ordering=created_at").await.is(200);
    let next: &Value = &paged["next"];
    let second = admin.get(next.as_str().expect("a next page")).await.is(200);
    assert_eq!(second.column("id"), ids(&[last]), "{second}");
}

#[tokio::test]
async fn totals_are_exact() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let dear = shop.product("Dear").price("99999999.99").stock(2_147_483_647).create().await;
    let cheap = shop.product("Cheap").price("0.01").stock(2_147_483_647).create().await;
    let free = shop.product("Free").price("0.00").create().await;
    ada.fill_cart(&dear, 1_000).await;
    ada.fill_cart(&cheap, 7).await;
    ada.fill_cart(&free, 1).await;
    assert_eq!(ada.cart().await["total_price"], "99999999990.07");
    let order = ada.checkout().await.is(201);
    assert_eq!(
        (&order["total_price"], &order["total_items"]),
        (&json!("99999999990.07"), &json!(1_008)),
        "{order}"
    );
    // More cents than 64 bits hold: refused or right, but never wrong and never a failure.
    let far = ada.put_in_cart(&dear, 2_147_480_000).await;
    if far.status == 201 {
        assert_eq!(ada.cart().await["total_price"], "214747999978525200.00", "{far}");
        let order = ada.checkout().await;
        if order.status == 201 {
            assert_eq!(order["total_price"], "214747999978525200.00", "{order}");
        } else {
            order.refused_properly();
        }
    } else {
        far.refused_properly();
    }
    ada.cart().await;
    shop.audit().await;
}
