// Accounts on the site, and that what people write is shown as they wrote it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { logIn, openShop, PASSWORD } from "./shop.mjs";

test("a user who is deactivated is out at once, and back when he is activated", async (t) => {
    const shop = await openShop(t);
    const ada = await shop.customer("ada");
    const page = await shop.loggedIn(t);
    await page.getByRole("navigation").getByRole("link", { name: "Users" }).click();
    await page.getByRole("link", { name: "ada@example.com" }).click();
    await page.getByRole("button", { name: "Deactivate" }).click();
    await page.getByText("not active", { exact: true }).waitFor();
    await shop.api("GET", "/auth/api/profile/", { token: ada.access, status: 401 });
    await page.getByRole("button", { name: "Activate", exact: true }).click();
    await page.getByRole("button", { name: "Deactivate" }).waitFor();
    const body = { email: "ada@example.com", password: PASSWORD };
    await shop.api("POST", "/auth/api/token/", { body, status: 200 });
});

test("somebody who is made an admin may enter, until he is none again", async (t) => {
    const shop = await openShop(t);
    const ada = await shop.customer("ada");
    const page = await shop.loggedIn(t);
    await page.goto(`/admin/users/${ada.id}/`);
    await page.getByRole("button", { name: "Make an admin" }).click();
    await page.getByRole("button", { name: "Take admin rights away" }).waitFor();
    const hers = await shop.loggedIn(t, "ada@example.com");
    await page.getByRole("button", { name: "Take admin rights away" }).click();
    await page.getByRole("button", { name: "Make an admin" }).waitFor();
    await hers.goto("/admin/users/");
    await hers.getByRole("heading", { name: "Log in" }).waitFor();
    hers.expectStatus(403);
    await logIn(hers, "ada@example.com");
    await hers.getByText("do not match an active admin account").waitFor();
});

test("markup in any text is shown as text on every page", async (t) => {
    const shop = await openShop(t);
    const script = (where) => `<script>alert("${where}")</script><img src=x onerror=alert(1)>`;
    const ada = await shop.customer("ada", {
        first_name: script("first"),
        last_name: script("last"),
        phone: "<b>1</b>",
        address: script("address"),
    });
    const profile = { profile: { bio: script("bio") } };
    await shop.api("PATCH", "/auth/api/profile/", { token: ada.access, body: profile });
    const lamp = await shop.product(script("product"), {
        category: script("category"),
        description: script("description"),
        sku: "<i>sku</i>",
    });
    const details = { shipping_address: script("ship"), phone: "<b>2</b>", notes: script("notes") };
    const order = await shop.order(ada, lamp, 1, details);
    const page = await shop.loggedIn(t);
    page.on("dialog", (dialog) => assert.fail(`a script ran: ${dialog.message()}`));
    const shown = async (path, ...texts) => {
        await page.goto(path);
        const text = await page.getByRole("main").innerText();
        for (const part of texts) assert.ok(text.includes(part), `${path} shows ${part}:\n${text}`);
        assert.equal(await page.locator("main script, main img[src=x]").count(), 0, path);
    };
    await shown("/admin/");
    await shown("/admin/orders/");
    await shown(`/admin/orders/${order.id}/`, script("product"), script("ship"), script("notes"), "<i>sku</i>");
    await shown("/admin/users/");
    await shown(`/admin/users/${ada.id}/`, script("first"), script("address"), script("bio"));
    await shown(`/admin/users/?search=${encodeURIComponent(script("search"))}`);
    await shown("/admin/history/");
});
