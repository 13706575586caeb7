// For looking at: SOUK_PICTURES names a folder for a picture of each page, on a desk and on a phone.

import { mkdirSync } from "node:fs";
import { test } from "node:test";
import { openShop } from "./shop.mjs";

const folder = process.env.SOUK_PICTURES;

test("pictures of the pages", { skip: !folder }, async (t) => {
    mkdirSync(folder, { recursive: true });
    const shop = await openShop(t);
    const ada = await shop.customer("ada", { first_name: "Ada", last_name: "Lovelace", phone: "+44 20 7946 0000" });
    const lamp = await shop.product("Brass desk lamp with a green shade", { stock: 40, price: "1249.00" });
    const cup = await shop.product("Cup", { category: "Tableware", stock: 3 });
    await shop.product("Oak stool", { category: "Furniture", stock: 0, featured: true });
    let order;
    for (let number = 1; number < 8; number++) {
        order = await shop.order(ada, lamp, number, { shipping_address: "12 St James's Square\nLondon", notes: "Ring twice." });
    }
    await shop.order(ada, cup, 1);
    const desk = await shop.loggedIn(t, undefined, { viewport: { width: 1280, height: 860 } });
    desk.expectStatus(404);
    await desk.goto(`/admin/orders/${order.id}/`);
    await desk.getByRole("button", { name: "Ship", exact: true }).click();
    await desk.goto(`/admin/products/${cup.id}/`);
    await desk.getByLabel("Price").fill("4.50");
    await desk.getByRole("button", { name: "Save" }).click();
    const phone = await shop.loggedIn(t, undefined, { viewport: { width: 390, height: 844 } });
    phone.expectStatus(404);
    const stranger = await shop.browser(t);
    await stranger.goto("/admin/login/");
    await stranger.screenshot({ path: `${folder}/login.png` });
    const pages = {
        dashboard: "/admin/",
        orders: "/admin/orders/",
        order: `/admin/orders/${order.id}/`,
        products: "/admin/products/",
        product: `/admin/products/${cup.id}/`,
        "product-new": "/admin/products/new/",
        "product-delete": `/admin/products/${cup.id}/delete/`,
        import: "/admin/products/import/",
        movements: `/admin/products/${cup.id}/movements/`,
        categories: "/admin/categories/",
        category: `/admin/categories/${cup.category}/`,
        users: "/admin/users/",
        user: `/admin/users/${ada.id}/`,
        history: "/admin/history/",
        missing: "/admin/nothing/",
    };
    for (const [name, path] of Object.entries(pages)) {
        for (const [width, page] of Object.entries({ desk, phone })) {
            await page.goto(path);
            await page.screenshot({ path: `${folder}/${name}-${width}.png`, fullPage: true });
        }
    }
});
