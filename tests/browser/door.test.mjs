// Who gets into the administration site, and who does not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ADMIN, logIn, openShop } from "./shop.mjs";

test("an admin logs in, goes on where he wanted to, and logs out", async (t) => {
    const shop = await openShop(t);
    const page = await shop.browser(t);
    await page.goto("/admin/orders/?status=pending");
    await page.getByText("Please log in to go on").waitFor();
    await page.getByLabel("Email").fill(ADMIN);
    await page.getByLabel("Password").fill("Tangerine-Kite-42");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Orders", level: 1 }).waitFor();
    assert.match(page.url(), /\/admin\/orders\/\?status=pending$/);
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in" }).waitFor();
    await page.goto("/admin/");
    await page.getByRole("heading", { name: "Log in" }).waitFor();
});

test("a customer is not let in, and is not told why", async (t) => {
    const shop = await openShop(t);
    await shop.customer("ada");
    const page = await shop.browser(t);
    page.expectStatus(403);
    await logIn(page, "ada@example.com");
    await page.getByText("do not match an active admin account").waitFor();
    await page.goto("/admin/");
    await page.getByRole("heading", { name: "Log in" }).waitFor();
});

test("a form from a foreign page does nothing", async (t) => {
    const shop = await openShop(t);
    const ada = await shop.customer("ada");
    const page = await shop.loggedIn(t);
    page.expectStatus(403);
    // The same browser, with its cookies, on a page of another origin: localhost is not 127.0.0.1.
    await page.route("http://localhost:1/**", (route) =>
        route.fulfill({
            contentType: "text/html",
            body: `<form method="post" action="${shop.url}/admin/users/${ada.id}/switch/">
                <button name="is_active" value="false">Win a prize</button></form>`,
        }),
    );
    await page.goto("http://localhost:1/");
    await page.getByRole("button", { name: "Win a prize" }).click();
    await page.waitForURL(`${shop.url}/**`);
    await shop.api("GET", "/auth/api/profile/", { token: ada.access });
});
