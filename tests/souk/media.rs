//! Images from the form to the file and back: where they are shown, how they are served, and that no file stays
//! behind, whoever replaces, deletes or crashes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use image::GenericImageView;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, Form, Product, Shop, Shopper, eventually, jpeg, png};

/// Sends a form.
pub(crate) async fn send(who: &Shopper, method: Method, path: &str, form: Form) -> Answer {
    form.put_into(who.call(method, path)).send().await
}

/// Changes an image.
async fn picture(who: &Shopper, path: &str, bytes: &[u8]) -> Answer {
    send(who, Method::PATCH, path, Form::new().file("image", bytes)).await
}

/// The files in the shop's folder of images, as paths below it.
pub(crate) fn files(shop: &Shop) -> BTreeSet<PathBuf> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("the folder of images") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.insert(path.strip_prefix(root).expect("a path below it").to_owned());
            }
        }
    }
    let root = shop.path().join("data/media");
    let mut found = BTreeSet::new();
    walk(&root, &root, &mut found);
    found
}

/// The file of an image and the small one beside it.
fn files_of(image: &Value) -> [PathBuf; 2] {
    let url = image.as_str().expect("the URL of an image");
    let (_, name) = url.split_once("/media/").expect("a URL below /media/");
    let (stem, extension) = name.rsplit_once('.').expect("a name with an extension");
    [name.into(), format!("{stem}.small.{extension}").into()]
}

/// Waits until the files of these images are all that there are.
async fn only(shop: &Shop, images: &[&Value]) {
    let expected: BTreeSet<PathBuf> = images.iter().copied().flat_map(files_of).collect();
    // Each round asks something, so that nothing spins.
    eventually("unused files are removed", async || {
        shop.anyone().get("/healthz").await.is(200);
        files(shop) == expected
    })
    .await;
}

async fn shown(shop: &Shop, image: &Value) -> Answer {
    shop.anyone().get(image.as_str().expect("the URL of an image")).await
}

#[tokio::test]
async fn a_product_is_created_by_a_form_with_its_image_and_shown_with_it_everywhere() {
    let shop = Shop::start().await;
    let (admin, category) = (shop.admin().await, shop.some_category().await);
    let form = Form::new()
        .text("name", "  Lamp ")
        .text("price", "19.90")
        .text("stock", "7")
        .text("category", &category.to_string())
        .text("featured", "true")
        .text("description", "")
        .text("sku", "")
        .file("image", &png(900, 450, 200));
    let lamp = send(&admin, Method::POST, "/api/products/", form).await.is(201);
    assert_eq!((&lamp["name"], &lamp["price"], &lamp["stock"]), (&json!("Lamp"), &json!("19.90"), &json!(7)));
    assert_eq!((&lamp["featured"], &lamp["is_active"]), (&json!(true), &json!(true)), "{lamp}");
    let image = lamp["image"].clone();
    let lamp = Product { id: lamp.id(), json: lamp.json };

    let file = shown(&shop, &image).await.is(200);
    assert_eq!(file.header("content-type"), "image/jpeg");
    let seen = image::load_from_memory(&file.bytes).expect("an image");
    assert_eq!(seen.dimensions(), (900, 450));
    let small = image.as_str().expect("a URL").replace(".jpg", ".small.jpg");
    let small = shown(&shop, &small.into()).await.is(200);
    assert_eq!(image::load_from_memory(&small.bytes).expect("an image").dimensions(), (320, 160));

    let ada = shop.register("ada").await;
    for path in ["/api/products/", "/api/products/featured/", "/api/products/?search=lamp"] {
        assert_eq!(ada.get(path).await.is(200).results()[0]["image"], image, "{path}");
    }
    assert_eq!(ada.get(&lamp.path()).await.is(200)["image"], image);
    let item = ada.put_in_cart(&lamp, 1).await.is(201);
    assert_eq!(item["product"]["image"], image);
    let replaced = picture(&admin, &lamp.path(), &jpeg(50, 50, 10)).await.is(200);
    assert_ne!(replaced["image"], image);
    assert_eq!(ada.cart().await["items"][0]["product"]["image"], replaced["image"]);
    assert_eq!(ada.get("/api/products/").await.is(200).results()[0]["image"], replaced["image"]);
    // The rest of it stayed.
    assert_eq!((&replaced["name"], &replaced["stock"]), (&json!("Lamp"), &json!(7)));
    only(&shop, &[&replaced["image"]]).await;
    shop.audit().await;
}

#[tokio::test]
async fn categories_and_avatars_have_images_too() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.admin().await, shop.register("ada").await);
    let form = Form::new().text("name", "Lights").file("image", &jpeg(40, 30, 1));
    let lights = send(&admin, Method::POST, "/api/categories/", form).await.is(201);
    let path = format!("/api/categories/{}/", lights.id());
    let old = lights["image"].clone();
    let form = Form::new().text("name", "Lamps").text("is_active", "on").file("image", &jpeg(40, 30, 2));
    let lamps = send(&admin, Method::PUT, &path, form).await.is(200);
    assert_eq!(ada.get(&path).await.is(200)["image"], lamps["image"]);
    assert_ne!(old, lamps["image"]);

    let form = Form::new()
        .text("first_name", "Ada")
        .text("date_of_birth", "")
        .text("profile.bio", "Counts.")
        .text("profile.preferences", r#"{"theme": "dark"}"#)
        .file("profile.avatar", &png(64, 64, 3));
    let user = send(&ada, Method::PATCH, "/auth/api/profile/", form).await.is(200);
    assert_eq!((&user["first_name"], &user["profile"]["bio"]), (&json!("Ada"), &json!("Counts.")));
    assert_eq!(user["profile"]["preferences"], json!({"theme": "dark"}));
    let first = user["profile"]["avatar"].clone();
    shown(&shop, &first).await.is(200);
    let form = Form::new().file("avatar", &png(64, 64, 4));
    let user = send(&ada, Method::PUT, "/auth/api/profile/", form).await.is(200);
    let second = user["profile"]["avatar"].clone();
    assert_ne!(first, second);
    only(&shop, &[&lamps["image"], &second]).await;
    assert_eq!(ada.get("/auth/api/profile/").await.is(200)["profile"]["avatar"], second);

    ada.patch("/auth/api/profile/", json!({"profile": {"avatar": null}})).await.is(200);
    admin.delete(&path).await.is(204);
    only(&shop, &[]).await;
    shown(&shop, &second).await.is(404);
}

#[tokio::test]
async fn an_image_is_taken_away_by_null_and_by_an_empty_text_and_left_by_saying_nothing() {
    let shop = Shop::start().await;
    let (admin, lamp) = (shop.admin().await, shop.product("Lamp").create().await);
    for clear in [
        Form::new().text("image", "").put_into(admin.call(Method::PATCH, &lamp.path())),
        admin.call(Method::PATCH, &lamp.path()).json(&json!({"image": null})),
    ] {
        let with = picture(&admin, &lamp.path(), &jpeg(20, 20, 1)).await.is(200);
        let left = admin.patch(&lamp.path(), json!({"price": "3.00"})).await.is(200);
        assert_eq!(left["image"], with["image"]);
        // A file field that nobody filled in.
        let empty = Form::new().text("stock", "3").part(
            "name=\"image\"; filename=\"\"",
            "application/octet-stream",
            b"",
        );
        let left = send(&admin, Method::PATCH, &lamp.path(), empty).await.is(200);
        assert_eq!((&left["image"], &left["stock"]), (&with["image"], &json!(3)));
        assert_eq!(clear.send().await.is(200)["image"], Value::Null);
        assert_eq!(shop.anyone().get(&lamp.path()).await.is(200)["image"], Value::Null);
        only(&shop, &[]).await;
    }
}

#[tokio::test]
async fn a_file_is_served_for_good_in_pieces_or_not_again() {
    let shop = Shop::start().await;
    let (admin, lamp) = (shop.admin().await, shop.product("Lamp").create().await);
    let image = picture(&admin, &lamp.path(), &jpeg(600, 600, 9)).await.is(200)["image"].clone();
    let url = image.as_str().expect("a URL");
    let ask = |headers: &[(&str, &str)], method: Method| {
        let call = shop.anyone().call(method, url);
        headers.iter().fold(call, |call, (name, value)| call.header(name, value)).send()
    };
    let whole = ask(&[], Method::GET).await.is(200);
    assert_eq!(whole.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(whole.header("x-content-type-options"), "nosniff");
    assert_eq!(whole.header("content-security-policy"), "default-src 'none'");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let (etag, length) = (whole.header("etag").to_owned(), whole.bytes.len());

    let head = ask(&[], Method::HEAD).await.is(200);
    assert_eq!(head.header("content-length"), length.to_string());
    assert!(head.bytes.is_empty());
    let unchanged = ask(&[("if-none-match", &etag)], Method::GET).await.is(304);
    assert!(unchanged.bytes.is_empty() && unchanged.header("etag") == etag, "{unchanged}");
    ask(&[("if-none-match", "\"another\"")], Method::GET).await.is(200);

    for (range, from, to) in
        [("bytes=10-19", 10, 20), ("bytes=100-", 100, length), ("bytes=-7", length - 7, length)]
    {
        let piece = ask(&[("range", range)], Method::GET).await.is(206);
        assert_eq!(piece.bytes, whole.bytes[from..to], "{range}");
        assert_eq!(piece.header("content-range"), format!("bytes {from}-{}/{length}", to - 1));
    }
    let piece = ask(&[("range", "bytes=0-3"), ("if-range", &etag)], Method::GET).await.is(206);
    assert_eq!(piece.bytes, whole.bytes[..4]);
    let other = ask(&[("range", "bytes=0-3"), ("if-range", "\"another\"")], Method::GET).await.is(200);
    assert_eq!(other.bytes, whole.bytes);
    let past = ask(&[("range", "bytes=99999999-")], Method::GET).await.is(416).refused_properly();
    assert_eq!(past.header("content-range"), format!("bytes */{length}"));
    ask(&[], Method::POST).await.is(405).refused_properly();
}

#[tokio::test]
async fn two_who_replace_an_image_at_once_leave_one_file_and_the_one_that_is_named() {
    let shop = Shop::start().await;
    let (admin, lamp) = (shop.admin().await, shop.product("Lamp").create().await);
    for round in 0..3 {
        let mut writers = JoinSet::new();
        for writer in 0..4 {
            let (admin, path) = (admin.clone(), lamp.path());
            writers.spawn(
                async move { picture(&admin, &path, &jpeg(60, 60, round * 8 + writer)).await.is(200) },
            );
        }
        writers.join_all().await;
        let image = shop.anyone().get(&lamp.path()).await.is(200)["image"].clone();
        shown(&shop, &image).await.is(200);
        only(&shop, &[&image]).await;
    }
    admin.delete(&lamp.path()).await.is(204);
    only(&shop, &[]).await;
}

#[tokio::test]
async fn a_refused_write_leaves_no_file() {
    let shop = Shop::start().await;
    let (admin, lamp) = (shop.admin().await, shop.product("Lamp").with("sku", "LAMP").create().await);
    let category = lamp.json["category"].to_string();
    let form = Form::new()
        .text("name", "Other")
        .text("price", "1")
        .text("category", &category)
        .text("sku", "LAMP")
        .file("image", &jpeg(20, 20, 1));
    send(&admin, Method::POST, "/api/products/", form).await.refuses("sku");
    let form = Form::new().text("name", "Sundries").file("image", &jpeg(20, 20, 1));
    send(&admin, Method::POST, "/api/categories/", form).await.refuses("name");
    let stale = Form::new().file("image", &jpeg(20, 20, 1)).put_into(admin.call(Method::PATCH, &lamp.path()));
    stale.header("if-match", "\"999-0\"").send().await.is(412);
    only(&shop, &[]).await;
}

#[tokio::test]
async fn a_folder_that_takes_no_file_is_a_503_with_nothing_half_done() {
    let shop = Shop::start().await;
    let (admin, lamp) = (shop.admin().await, shop.product("Lamp").create().await);
    let old = picture(&admin, &lamp.path(), &jpeg(20, 20, 1)).await.is(200)["image"].clone();
    // In the place of the folder is something that no file can be put into, as on a disk that is full.
    let (folder, away) = (shop.path().join("data/media"), shop.path().join("data/away"));
    std::fs::rename(&folder, &away).expect("a folder that moves");
    std::fs::write(&folder, "full").expect("a file");
    let form = Form::new().text("name", "Lantern").file("image", &jpeg(20, 20, 2));
    let answer = send(&admin, Method::PATCH, &lamp.path(), form).await.is(503);
    assert!(answer["detail"].is_string() && answer.header("retry-after") == "1", "{answer}");
    let present = shop.anyone().get(&lamp.path()).await.is(200);
    assert_eq!((&present["name"], &present["image"]), (&json!("Lamp"), &old));

    std::fs::remove_file(&folder).expect("a file");
    std::fs::rename(&away, &folder).expect("a folder that moves");
    let new = picture(&admin, &lamp.path(), &jpeg(20, 20, 3)).await.is(200)["image"].clone();
    only(&shop, &[&new]).await;
}

/// A file of an upload whose server died before a row named it, and one half written.
#[tokio::test]
async fn what_a_crash_left_is_removed_by_the_next_start() {
    let mut shop = Shop::start().await;
    let (admin, lamp) = (shop.admin().await, shop.product("Lamp").create().await);
    let image = picture(&admin, &lamp.path(), &jpeg(20, 20, 1)).await.is(200)["image"].clone();
    shop.kill9().await;
    let folder = shop.path().join("data/media/ab");
    std::fs::create_dir_all(&folder).expect("a folder");
    for end in ["jpg", "small.jpg", "jpg.part", "small.jpg.part"] {
        std::fs::write(folder.join(format!("0123456789abcdef0123456789abcd.{end}")), "left").expect("a file");
    }
    shop.tamper(
        "insert into media_files (name, created_at) \
         values ('ab/0123456789abcdef0123456789abcd.jpg', '2026-01-01T00:00:00+00:00')",
    )
    .await;
    shop.open().await;
    only(&shop, &[&image]).await;
    shown(&shop, &shop.anyone().get(&lamp.path()).await.is(200)["image"]).await.is(200);
}

/// Replaces the image of its own product until the server is gone.
async fn replace_on_and_on(admin: Shopper, path: String, stop: Arc<AtomicBool>) {
    for shade in 0.. {
        let form = Form::new().file("image", &jpeg(80, 80, shade % 250));
        let call = form.put_into(admin.call(Method::PATCH, &path));
        if stop.load(Ordering::Relaxed) || call.try_send().await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_server_that_is_killed_while_images_are_replaced_leaves_no_orphan_and_no_name_without_a_file() {
    let mut shop = Shop::start().await;
    let admin = shop.admin().await;
    let mut products = Vec::new();
    for number in 0..3 {
        products.push(shop.product(&format!("Lamp {number}")).create().await);
    }
    for round in 1..=3 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for product in &products {
            writers.spawn(replace_on_and_on(admin.clone(), product.path(), Arc::clone(&stop)));
        }
        let seen = RefCell::new(BTreeSet::new());
        eventually("images are replaced", async || {
            shop.anyone().get("/healthz").await.is(200);
            seen.borrow_mut().extend(files(&shop));
            seen.borrow().len() > 10 * round
        })
        .await;
        shop.kill9().await;
        stop.store(true, Ordering::Relaxed);
        writers.join_all().await;
        shop.open().await;
    }
    // As if some time had passed.
    shop.kill9().await;
    shop.tamper_with_any(
        "update media_files set created_at = '2026-01-01T00:00:00+00:00' where state = 'pending'",
    )
    .await;
    shop.open().await;
    let mut images = Vec::new();
    for product in &products {
        let image = shop.anyone().get(&product.path()).await.is(200)["image"].clone();
        shown(&shop, &image).await.is(200);
        images.push(image);
    }
    only(&shop, &images.iter().collect::<Vec<_>>()).await;
    shop.audit().await;
}

#[tokio::test]
async fn nodes_share_the_folder_and_what_one_stores_the_other_shows() {
    let folder = tempfile::tempdir().expect("a shared folder");
    let root = folder.path().to_str().expect("a path of text");
    let one = Shop::start_with(&[("MEDIA_ROOT", root)]).await;
    let (admin, lamp) = (one.admin().await, one.product("Lamp").create().await);
    let image = picture(&admin, &lamp.path(), &jpeg(20, 20, 1)).await.is(200)["image"].clone();
    let two = one.node(&[]).await;
    let image = image.as_str().expect("a URL").replace(&one.url(), "");
    let shown = two.anyone().get(&image).await.is(200);
    assert_eq!(one.anyone().get(&image).await.is(200).header("etag"), shown.header("etag"));
}
