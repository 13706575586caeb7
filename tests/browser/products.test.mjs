// Products and categories on the site: their forms, their stock, many at once, and files of them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";
import { openShop } from "./shop.mjs";

const press = (page, name) => page.getByRole("main").getByRole("button", { name, exact: true }).click();
const says = (page, text) => page.getByRole("main").getByText(text).first().waitFor();

test("a product with an image is created, and seen in the list and by the API", async (t) => {
    const shop = await openShop(t);
    await shop.product("Whisk", { category: "Kettles" });
    const page = await shop.loggedIn(t);
    page.expectStatus(400);
    await page.getByRole("navigation").getByRole("link", { name: "Products" }).click();
    await page.getByRole("link", { name: "New product" }).click();
    await page.getByLabel("Name").fill("Copper kettle");
    await page.getByLabel("Price").fill("abc");
    await page.getByLabel("Stock").fill("12");
    await page.getByLabel("Category").selectOption({ label: "Kettles" });
    await press(page, "Create");
    await says(page, "A valid number is required.");
    assert.equal(await page.getByLabel("Name").inputValue(), "Copper kettle", "what was typed stays");

    await page.getByLabel("Price").fill("49.90");
    await page.getByLabel("SKU").fill("KET-1");
    const picture = { name: "kettle.png", mimeType: "image/png", buffer: png(64, 48, [200, 110, 60]) };
    await page.getByLabel("Image", { exact: true }).setInputFiles(picture);
    await page.waitForSelector("img#preview[src^=blob]:visible");
    await press(page, "Create");
    await says(page, "Copper kettle was created.");
    const [kettle] = (await shop.api("GET", "/api/products/?search=copper")).results;
    assert.deepEqual([kettle.price, kettle.stock, kettle.sku], ["49.90", 12, "KET-1"]);
    const image = await fetch(kettle.image);
    assert.equal(image.status, 200);
    assert.match(image.headers.get("content-type"), /^image\//);

    await page.goto("/admin/products/?search=ket-1");
    await says(page, "Copper kettle");
    const width = await page.locator("img.thumb").evaluate((shown) => shown.decode().then(() => shown.naturalWidth));
    assert.ok(width > 0, "its small image is shown");
});

test("a form that was open while units were sold undoes nothing", async (t) => {
    const shop = await openShop(t);
    const lamp = await shop.product("Desk lamp", { stock: 10 });
    const ada = await shop.customer("ada");
    const stock = async () => (await shop.api("GET", `/api/products/${lamp.id}/`)).stock;
    const page = await shop.loggedIn(t);
    page.expectStatus(409);
    await page.goto(`/admin/products/${lamp.id}/`);
    await shop.order(ada, lamp, 3);

    // What does not touch the stock is saved whatever was sold.
    await page.getByLabel("Description").fill("Bright.");
    await press(page, "Save");
    await says(page, "Desk lamp was saved.");
    assert.equal(await stock(), 7);

    await shop.order(ada, lamp, 2);
    await page.getByLabel("Stock").fill("20");
    await press(page, "Save");
    await says(page, "when this form was opened there were 7, and now there are 5");
    assert.equal(await stock(), 5);
    await press(page, "Save");
    await says(page, "Desk lamp was saved.");
    assert.equal(await stock(), 20);

    await page.getByLabel("Move it by").fill("-4");
    await press(page, "Move");
    await says(page, "The stock was moved by -4: there are 16 now.");
    await page.getByRole("link", { name: "All movements" }).click();
    await page.getByRole("heading", { name: "Movements of Desk lamp" }).waitFor();
});

test("several products are changed at once, and one is deleted knowingly", async (t) => {
    const shop = await openShop(t);
    const plates = [];
    for (const name of ["Plate one", "Plate two", "Plate three"]) {
        plates.push(await shop.product(name, { category: "Plates", stock: 4 }));
    }
    await shop.product("Bowl", { category: "Bowls" });
    const page = await shop.loggedIn(t);
    await page.goto(`/admin/products/?category=${plates[0].category}`);
    await page.check("[data-all=product]");
    await page.getByLabel("Units to move the stock by").fill("-5");
    await press(page, "Move stock");
    await says(page, "0 products moved by -5 units. Left as they were: 3.");
    await page.getByLabel("Choose Plate one").check();
    await press(page, "Deactivate");
    await says(page, "1 product deactivated.");
    await page.check("[data-all=product]");
    await page.getByLabel("Category to move them to").selectOption({ label: "Bowls" });
    await press(page, "Move there");
    await says(page, "3 products moved to Bowls.");

    await page.goto(`/admin/products/${plates[1].id}/`);
    await page.getByRole("link", { name: "Delete …" }).click();
    await says(page, "Orders keep their own copy");
    await press(page, "Delete it");
    await says(page, "Plate two was deleted.");
    await page.goto("/admin/history/?kind=product");
    await says(page, "deleted");
});

test("Enter in a list does none of its actions", async (t) => {
    const shop = await openShop(t);
    const cup = await shop.product("Cup", { is_active: false, stock: 4 });
    const order = await shop.order(await shop.customer("ada"), await shop.product("Walnut lamp"));
    const page = await shop.loggedIn(t);
    const sent = [];
    page.on("request", (request) => request.method() === "POST" && sent.push(request.url()));
    await page.goto("/admin/products/");
    await page.getByLabel("Choose Cup").check();
    await page.getByLabel("Units to move the stock by").fill("5");
    await page.getByLabel("Units to move the stock by").press("Enter");
    await page.getByLabel("Choose Cup").press("Enter");
    assert.ok(!(await page.locator("button[formmethod=dialog]").isVisible()));
    await page.goto("/admin/orders/");
    await page.getByLabel(`Choose order ${order.id}`).check();
    await page.getByLabel(`Choose order ${order.id}`).press("Enter");
    await page.goto(`/admin/orders/${order.id}/`);
    await page.getByRole("button", { name: "Ship", exact: true }).waitFor();
    assert.deepEqual(sent, []);
    const token = await shop.adminToken();
    const { is_active, stock } = await shop.api("GET", `/api/products/${cup.id}/`, { token });
    assert.deepEqual([is_active, stock], [false, 4]);
    // The buttons themselves still do what they say.
    await page.goto("/admin/products/");
    await page.getByLabel("Choose Cup").check();
    await press(page, "Activate");
    await says(page, "1 product activated.");
});

test("a file with bad rows imports nothing, and says which; without them it is imported", async (t) => {
    const shop = await openShop(t);
    await shop.product("Assam", { category: "Teas", sku: "T-1", price: "5.00" });
    const page = await shop.loggedIn(t);
    page.expectStatus(400);
    const choose = async (rows) => {
        const buffer = Buffer.from(`sku,name,price,stock,category\n${rows}`);
        await page.getByLabel("CSV file").setInputFiles({ name: "teas.csv", mimeType: "text/csv", buffer });
        await press(page, "Look at it first");
    };
    await page.goto("/admin/products/");
    await page.getByRole("link", { name: "Import …" }).click();
    await choose("T-1,,5.50,,\nT-2,Ceylon,cheap,3,Teas\nT-3,Oolong,7.00,3,Coffees\n");
    await says(page, "2 rows cannot be imported, so nothing will be");
    await says(page, "price: A valid number is required.");
    await says(page, "category: No category is named “Coffees”.");
    assert.equal((await shop.api("GET", "/api/products/")).count, 1);

    await choose("T-1,,5.50,,\nT-2,Ceylon,6.00,3,Teas\n");
    await says(page, "1 new, 1 changed, 0 as they are");
    await says(page, "price: 5.00 → 5.50");
    assert.equal((await shop.api("GET", "/api/products/")).count, 1, "it was only looked at");
    await press(page, "Import them");
    await says(page, "The file was imported: 1 product created, 1 changed.");
    assert.equal((await shop.api("GET", "/api/products/?search=ceylon")).results[0].stock, 3);
});

test("markup in products and categories is shown as text", async (t) => {
    const shop = await openShop(t);
    const markup = `<script>alert("1")</script>'"><img src=x onerror=alert(2)>`;
    const lamp = await shop.product(markup, { category: markup, description: markup, sku: "<i>sku</i>" });
    const page = await shop.loggedIn(t);
    page.on("dialog", (dialog) => assert.fail(`a script ran: ${dialog.message()}`));
    await page.goto(`/admin/products/${lamp.id}/`);
    await page.getByLabel("Name").fill(`${markup} again`);
    await press(page, "Save");
    for (const path of [
        "/admin/products/",
        `/admin/products/?search=${encodeURIComponent(markup)}`,
        `/admin/products/${lamp.id}/`,
        `/admin/products/${lamp.id}/movements/`,
        `/admin/products/${lamp.id}/delete/`,
        "/admin/categories/",
        `/admin/categories/${lamp.category}/`,
        `/admin/categories/${lamp.category}/delete/`,
        "/admin/history/",
    ]) {
        await page.goto(path);
        assert.equal(await page.locator("main script, main img[src=x], main i").count(), 0, path);
    }
});

test("what is essential works without scripts, on a phone", async (t) => {
    const shop = await openShop(t);
    const phone = { javaScriptEnabled: false, viewport: { width: 390, height: 844 } };
    const page = await shop.loggedIn(t, undefined, phone);
    await page.getByRole("navigation").getByRole("link", { name: "Categories" }).click();
    await page.getByRole("link", { name: "New category" }).click();
    await page.getByLabel("Name").fill("Without scripts");
    await press(page, "Create");
    await says(page, "Without scripts was created.");
    await shop.product("Cup", { category: "Without scripts" });
    for (const path of ["/admin/", "/admin/orders/", "/admin/products/", "/admin/users/", "/admin/history/"]) {
        await page.goto(path);
        const inputs = await page.locator("main input:visible, main select:visible, main button:visible").all();
        for (const input of inputs) {
            const box = await input.boundingBox();
            assert.ok(box.x >= 0 && box.x + box.width <= 390, `${path}: all of it is on the screen`);
        }
    }
});

/** A picture of one colour. */
function png(width, height, colour) {
    const chunk = (type, data) => {
        const body = Buffer.concat([Buffer.from(type), data]);
        const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
        length.writeUInt32BE(data.length);
        check.writeUInt32BE(crc32(body));
        return Buffer.concat([length, body, check]);
    };
    const head = Buffer.alloc(13);
    head.writeUInt32BE(width, 0);
    head.writeUInt32BE(height, 4);
    head.set([8, 2, 0, 0, 0], 8);
    const row = Buffer.concat([Buffer.from([0]), ...Array(width).fill(Buffer.from(colour))]);
    const pixels = deflateSync(Buffer.concat(Array(height).fill(row)));
    const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
    return Buffer.concat([signature, chunk("IHDR", head), chunk("IDAT", pixels), chunk("IEND", Buffer.alloc(0))]);
}

function crc32(bytes) {
    let crc = ~0;
    for (const byte of bytes) {
        crc ^= byte;
        for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc >>> 0;
}
