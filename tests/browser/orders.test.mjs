// What happens to orders on the site, and who hears of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openShop } from "./shop.mjs";

test("an order that is shipped is told to the customer at once", async (t) => {
    const shop = await openShop(t);
    const [ada, lamp] = [await shop.customer("ada"), await shop.product("Walnut lamp")];
    const order = await shop.order(ada, lamp, 2, { shipping_address: "1 Mill Lane" });
    const socket = await shop.listen(t, ada);
    const page = await shop.loggedIn(t);
    await page.getByRole("link", { name: `#${order.id}`, exact: true }).click();
    await page.getByText("1 Mill Lane").waitFor();
    await page.getByRole("button", { name: "Ship" }).click();
    await page.getByRole("status").waitFor();
    const [told] = await socket.until("order_status_update", 1);
    assert.deepEqual([told.order_id, told.previous_status, told.status], [order.id, "pending", "shipped"]);
    // What is not a next step is not offered.
    assert.equal(await page.getByRole("button", { name: "Cancel" }).count(), 0);
});

test("ten orders are shipped together, and one that was cancelled meanwhile is not", async (t) => {
    const shop = await openShop(t);
    const [ada, lamp] = [await shop.customer("ada"), await shop.product("Walnut lamp", { stock: 50 })];
    const orders = [];
    for (let made = 0; made < 10; made += 1) orders.push(await shop.order(ada, lamp));
    const socket = await shop.listen(t, ada);
    const page = await shop.loggedIn(t);
    await page.goto("/admin/orders/?status=pending");
    await page.getByLabel("Choose all on this page").check();
    assert.equal(await page.locator('input[name="order"]:checked').count(), 10);
    const cancelled = orders[3].id;
    await shop.api("POST", `/api/orders/${cancelled}/cancel/`, { token: ada.access, status: 200 });
    await page.getByRole("button", { name: "Ship" }).click();
    const said = await page.getByRole("status").innerText();
    assert.match(said, /9 orders shipped.*1 was cancelled already/);
    const told = await socket.until("order_status_update", 10);
    const shipped = told.filter((event) => event.status === "shipped").map((event) => event.order_id);
    const expected = orders.map((order) => order.id).filter((id) => id !== cancelled);
    assert.deepEqual(shipped.sort((a, b) => a - b), expected);
});

test("a new order appears on the dashboard by itself", async (t) => {
    const shop = await openShop(t);
    const [ada, lamp] = [await shop.customer("ada"), await shop.product("Walnut lamp")];
    const page = await shop.loggedIn(t);
    await page.getByText("No orders yet").waitFor();
    const order = await shop.order(ada, lamp);
    await page.getByRole("link", { name: `#${order.id}`, exact: true }).waitFor();
});
