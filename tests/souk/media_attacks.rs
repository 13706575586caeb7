//! Whoever uploads something else than an image is told so, and the server is none the heavier for it.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{Answer, Browser, Form, Shop, Shopper, eventually, jpeg, png};
use crate::media::{files, send};

const NOT_AN_IMAGE: &str =
    "Upload a valid image. The file you uploaded was either not an image or a corrupted image.";
const NOT_A_FILE: &str = "The submitted data was not a file. Check the encoding type on the form.";

const MIB: usize = 1024 * 1024;

fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(content);
    let length = u32::try_from(content.len()).expect("a short chunk").to_be_bytes();
    [&length[..], kind, content, &sum.sum().to_be_bytes()].concat()
}

/// A PNG of 20,000 by 20,000 pixels in about 48 KB; decoded it takes 400 MB.
pub(crate) fn bomb() -> Vec<u8> {
    const EDGE: usize = 20_000;
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::best());
    for _ in 0..EDGE {
        pixels.write_all(&[0; EDGE / 8 + 1]).expect("memory");
    }
    let edge = u32::try_from(EDGE).expect("a short edge").to_be_bytes();
    let header = [&edge[..], &edge, &[1, 0, 0, 0, 0]].concat();
    let pixels = pixels.finish().expect("memory");
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &pixels), chunk(b"IEND", b"")]
        .concat()
}

async fn avatar(who: &Shopper, bytes: &[u8]) -> Answer {
    send(who, Method::PATCH, "/auth/api/profile/", Form::new().file("avatar", bytes)).await
}

#[tokio::test]
async fn what_is_no_image_is_refused_and_takes_no_memory() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    avatar(&ada, &jpeg(3000, 2000, 1)).await.is(200);
    let before = files(&shop);
    let (_, most) = shop.memory();
    let whole = jpeg(300, 300, 1);
    let bomb = bomb();
    assert!((45_000..52_000).contains(&bomb.len()), "{} bytes", bomb.len());
    let page = [&b"<html><script>alert(1)</script>"[..], &whole].concat();
    for (what, bytes) in [
        ("a bomb", &bomb[..]),
        ("half a JPEG", &whole[..whole.len() / 2]),
        ("half a PNG", &png(300, 300, 1)[..200]),
        ("a picture that draws itself", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        ("a page that is a picture too", &page),
        ("a GIF", b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"),
        ("a BMP", b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0"),
        ("one byte", b"\xff"),
    ] {
        let answer = avatar(&ada, bytes).await.is(400).refused_properly();
        assert_eq!(answer["profile"]["avatar"], json!([NOT_AN_IMAGE]), "{what}\n{answer}");
    }
    let mut attackers = JoinSet::new();
    for _ in 0..8 {
        let (ada, bomb) = (ada.clone(), bomb.clone());
        attackers.spawn(async move {
            for _ in 0..10 {
                avatar(&ada, &bomb).await.is(400);
            }
        });
    }
    attackers.join_all().await;
    let (_, most_now) = shop.memory();
    assert!(most_now < most + 64 * 1024, "it grew from {most} to {most_now} KiB");
    assert_eq!(files(&shop), before);
    let empty = avatar(&ada, b"").await.is(400);
    assert_eq!(empty["avatar"], json!(["The submitted file is empty."]), "{empty}");
}

#[tokio::test]
async fn more_than_five_mebibytes_are_413_however_they_are_sent() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    // As much as may be, after the picture's end.
    let mut full = png(100, 100, 1);
    full.resize(5 * MIB, 0);
    avatar(&ada, &full).await.is(200);
    let (_, most) = shop.memory();
    full.push(0);
    avatar(&ada, &full).await.is(413).refused_properly();
    let two = Form::new().file("avatar", &full[..4 * MIB]).file("other", &full[..4 * MIB]);
    send(&ada, Method::PATCH, "/auth/api/profile/", two).await.is(413).refused_properly();
    let texts = Form::new().text("first_name", &"x".repeat(MIB)).text("last_name", "y");
    send(&ada, Method::PATCH, "/auth/api/profile/", texts).await.is(413).refused_properly();
    let mut many = Form::new();
    for number in 0..200 {
        many = many.text(&format!("n{number}"), "x");
    }
    send(&ada, Method::PATCH, "/auth/api/profile/", many).await.is(400).refused_properly();
    let mut senders = JoinSet::new();
    for _ in 0..12 {
        let (ada, bytes) = (ada.clone(), vec![0; 20 * MIB]);
        senders.spawn(async move {
            // The server may hang up before it was told everything.
            let form = Form::new().file("avatar", &bytes);
            if let Ok(answer) = form.put_into(ada.call(Method::PATCH, "/auth/api/profile/")).try_send().await
            {
                answer.is(413);
            }
        });
    }
    senders.join_all().await;
    let (_, most_now) = shop.memory();
    assert!(most_now < most + 64 * 1024, "it grew from {most} to {most_now} KiB");
}

#[tokio::test]
async fn a_client_names_no_file_and_no_path_leads_out() {
    let shop = Shop::start().await;
    let ada = shop.register("ada").await;
    let bytes = jpeg(30, 30, 1);
    for name in
        ["../../../evil.jpg", "/etc/passwd", "..\\evil.jpg", "a%00.jpg", ".htaccess", "x.php", "x.svg"]
    {
        let form = Form::new().part(&format!("name=\"avatar\"; filename=\"{name}\""), "text/html", &bytes);
        let user = send(&ada, Method::PATCH, "/auth/api/profile/", form).await.is(200);
        let url = user["profile"]["avatar"].as_str().expect("a URL").to_owned();
        assert!(url.ends_with(".jpg") && !url.contains("evil"), "{url}");
        assert_eq!(shop.anyone().get(&url).await.is(200).header("content-type"), "image/jpeg");
    }
    let secret = shop.path().join("data/media/secret.txt");
    std::fs::write(&secret, "secret").expect("a file");
    std::fs::create_dir_all(shop.path().join("data/media/cd")).expect("a folder");
    let link = "cd/0123456789abcdef0123456789abcd.jpg";
    std::os::unix::fs::symlink(&secret, shop.path().join("data/media").join(link)).expect("a link");
    for path in [
        "",
        "secret.txt",
        "../souk.db",
        "%2e%2e/souk.db",
        "..%2f..%2fsouk.db",
        "cd/../secret.txt",
        "cd/%2e%2e/secret.txt",
        "cd%5c..%5csecret.txt",
        "/etc/passwd",
        "cd/",
        link,
        "cd/0123456789abcdef0123456789abcd.jpg%00.png",
        "cd/ffffffffffffffffffffffffffffff.jpg",
    ] {
        let answer = shop.anyone().get(&format!("/media/{path}")).await.is(404).refused_properly();
        assert!(!answer.plain().contains("secret"), "{path}\n{answer}");
    }
}

#[tokio::test]
async fn a_form_is_judged_by_the_same_rules_and_tells_every_bad_field_at_once() {
    let shop = Shop::start().await;
    let (admin, category) = (shop.admin().await, shop.some_category().await);
    let form = Form::new()
        .text("name", "")
        .text("price", "1.999")
        .text("stock", "-1")
        .text("category", "x")
        .text("featured", "perhaps")
        .file("is_active", b"no text")
        .text("image", "http://example.com/cat.jpg");
    let answer = send(&admin, Method::POST, "/api/products/", form).await.is(400).refused_properly();
    assert_eq!(
        answer.json,
        json!({
            "name": ["This field may not be blank."],
            "price": ["Ensure that there are no more than 2 decimal places."],
            "stock": ["Ensure this value is greater than or equal to 0."],
            "category": ["Incorrect type. Expected pk value, received str."],
            "featured": ["Must be a valid boolean."],
            "is_active": ["Must be a valid boolean."],
            "image": [NOT_A_FILE],
        })
    );
    let form = Form::new().text("name", "x".repeat(256).as_str()).file("image", b"no image");
    let answer = send(&admin, Method::POST, "/api/products/", form).await.is(400);
    assert_eq!(answer.refused_fields(), ["category", "image", "name", "price"], "{answer}");
    for value in [json!("cat.jpg"), json!(1), json!(true), json!({}), json!([])] {
        let body = json!({"name": "Lamp", "price": "1", "category": category, "image": value});
        admin.post("/api/products/", body).await.refuses_with("image", NOT_A_FILE);
        let body = json!({"profile": {"avatar": value}});
        let answer = admin.patch("/auth/api/profile/", body).await.is(400);
        assert_eq!(answer["profile"]["avatar"], json!([NOT_A_FILE]), "{answer}");
    }
    assert_eq!(admin.get("/api/products/").await.is(200).count(), 0);
    assert!(files(&shop).is_empty());
}

#[tokio::test]
async fn a_body_that_is_no_form_as_it_says_is_400() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.admin().await, shop.register("ada").await);
    let lamp = shop.product("Lamp").create().await;
    for (kind, body) in [
        ("multipart/form-data", "--x--\r\n"),
        ("multipart/form-data; boundary=x", ""),
        ("multipart/form-data; boundary=x", "nothing of the kind"),
        (
            "multipart/form-data; boundary=x",
            "--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nLamp",
        ),
    ] {
        let answer = admin.call(Method::PATCH, &lamp.path()).body(kind, body).send().await.is(400);
        assert!(answer.text("detail").starts_with("Multipart form parse error - "), "{answer}");
    }
    // Who may not is told before anything is read.
    send(&ada, Method::PATCH, &lamp.path(), Form::new().file("image", b"x")).await.is(403);
    send(&shop.anyone(), Method::PATCH, &lamp.path(), Form::new().file("image", b"x")).await.is(401);
    send(&admin, Method::PATCH, "/api/products/999/", Form::new().file("image", b"x")).await.is(404);
    // Where there is no image there is no form.
    send(&ada, Method::POST, "/api/orders/", Form::new().text("notes", "x")).await.is(415);
    assert_eq!(shop.anyone().get(&lamp.path()).await.is(200)["image"], Value::Null);
}

/// Begins to send a file of five mebibytes, and never ends.
async fn begin_upload(shop: &Shop, who: &Shopper) -> TcpStream {
    let host = shop.address();
    let part = "--x\r\nContent-Disposition: form-data; name=\"avatar\"; filename=\"x\"\r\n\r\n";
    let file = 5 * MIB - 2_000;
    let head = format!(
        "PATCH /auth/api/profile/ HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {}\r\n\r\n{part}",
        who.access,
        part.len() + file + 1_000
    );
    let mut stream = TcpStream::connect(host).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("the head can be sent");
    // A server that refuses it need not read it.
    drop(stream.write_all(&vec![b'a'; file]).await);
    stream
}

#[tokio::test]
async fn nobody_holds_the_room_of_all_uploads() {
    let shop = Shop::start().await;
    let (ada, bob) = (shop.register("ada").await, shop.register("bob").await);
    let mut admin = Browser::of_admin(&shop).await;
    let picture = jpeg(400, 300, 1);
    // Without an account there is nothing to upload.
    let login = Form::new().text("email", "x").file("password", &picture);
    login.put_into(admin.call(Method::POST, "/admin/login/")).send().await.is(415);
    let mut held = Vec::new();
    for _ in 0..14 {
        held.push(begin_upload(&shop, &ada).await);
    }
    let large = vec![0; 4 * MIB];
    eventually("who holds all of a share gets no more of it", async || {
        avatar(&ada, &large).await.status == 503
    })
    .await;
    avatar(&bob, &picture).await.is(200);
    // Text takes nothing of it.
    let form = Form::new().text("first_name", "Ada");
    send(&ada, Method::PATCH, "/auth/api/profile/", form).await.is(200);
    let csrf = admin.csrf("/admin/categories/new/").await;
    let form = Form::new().text("csrf", &csrf).text("name", "Lamps").file("image", &picture);
    form.put_into(admin.call(Method::POST, "/admin/categories/new/")).send().await.is(303);
    drop(held);
    eventually("the room comes back", async || avatar(&ada, &picture).await.status == 200).await;
}
