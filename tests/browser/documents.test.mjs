// The API's documents: a stranger becomes a customer and orders, from the page alone.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openShop, PASSWORD } from "./shop.mjs";

/** Opens an operation, sends it, with this body if there is one, and gives the answer. */
async function send(page, tag, id, body) {
    const block = page.locator(`#operations-${tag}-${id}`);
    await page.locator(`#operations-tag-${tag}`).click();
    await block.locator(".opblock-summary-control").click();
    if (body !== undefined) await block.locator("textarea.body-param__text").fill(JSON.stringify(body));
    await block.locator(".execute").click();
    const answer = block.locator(".live-responses-table");
    const status = await answer.locator(".response-col_status").last().innerText();
    const text = await answer.locator(".highlight-code, .microlight").first().innerText();
    return { status: Number.parseInt(status, 10), text };
}

test("a stranger registers, is signed in, and orders from the page", async (t) => {
    const shop = await openShop(t);
    const lamp = await shop.product("Walnut lamp", { stock: 3 });
    const page = await shop.browser(t);
    await page.goto("/");
    await page.getByRole("link", { name: "API documents" }).click();
    await page.getByRole("heading", { name: "Souk" }).waitFor();

    const papers = { email: "ada@example.com", username: "ada", password: PASSWORD, password_confirm: PASSWORD };
    const registered = await send(page, "Accounts", "post_auth_api_register", papers);
    assert.equal(registered.status, 201, registered.text);
    const line = { product_id: lamp.id, quantity: 2 };
    const added = await send(page, "Cart", "post_api_cart_items", line);
    assert.equal(added.status, 201, added.text);
    const ordered = await send(page, "Orders", "post_api_orders", { notes: "Ring twice." });
    assert.equal(ordered.status, 201, ordered.text);
    assert.match(ordered.text, /Walnut lamp/);

    // Whoever comes back is still signed in.
    await page.goto("/");
    await page.goto("/api/docs/");
    const orders = await send(page, "Orders", "get_api_orders");
    assert.equal(orders.status, 200, orders.text);
    assert.match(orders.text, /Ring twice/);
    assert.equal((await shop.api("GET", `/api/products/${lamp.id}/`)).stock, 1);
});
