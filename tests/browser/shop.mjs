// A shop of its own for one test: the real server on a free port with a folder of its own, people with accounts, and
// browsers in which no page may complain. What a page logs as an error, or what its Content-Security-Policy forbids,
// fails the test at its end.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const BINARY = process.env.SOUK_BINARY ?? new URL("../../target/debug/souk", import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
/** How long anything may take until the test gives up, in milliseconds. */
const DEADLINE = 20_000;
export const PASSWORD = "Tangerine-Kite-42";
export const ADMIN = "boss@example.com";

/** Opens a shop, and closes it with all that belongs to it when the test `t` is over. */
export async function openShop(t) {
    const folder = mkdtempSync(join(tmpdir(), "souk-browser-"));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const settings = {
        PATH: process.env.PATH,
        HOME: folder,
        NO_COLOR: "1",
        PORT: "0",
        DATABASE_URL: `sqlite://${folder}/souk.db`,
    };
    await createAdmin(folder, settings);
    const server = spawn(BINARY, ["serve"], { cwd: folder, env: settings, stdio: ["ignore", "pipe", "pipe"] });
    t.after(async () => {
        const gone = once(server, "exit");
        server.kill("SIGTERM");
        const [code] = await gone;
        assert.equal(code, 0, "the server stops cleanly");
    });
    const url = await addressOf(server);
    const shop = new Shop(url);
    t.after(() => shop.close());
    return shop;
}

async function createAdmin(folder, settings) {
    const command = spawn(BINARY, ["createsuperuser", "--email", ADMIN, "--username", "boss", "--noinput"], {
        cwd: folder,
        env: { ...settings, SOUK_SUPERUSER_PASSWORD: PASSWORD },
        stdio: ["ignore", "ignore", "inherit"],
    });
    const [code] = await once(command, "exit");
    assert.equal(code, 0, "createsuperuser makes an admin");
}

/** Where the server says that it listens. */
async function addressOf(server) {
    const said = [];
    const found = new Promise((resolve, reject) => {
        for (const stream of [server.stdout, server.stderr]) {
            createInterface({ input: stream }).on("line", (line) => {
                said.push(line);
                const address = line.includes("listening") && line.match(/http:\/\/127\.0\.0\.1:\d+/);
                if (address) resolve(address[0]);
            });
        }
        server.once("exit", () => reject(new Error(`the server ended:\n${said.join("\n")}`)));
    });
    return found;
}

class Shop {
    #browser;

    constructor(url) {
        this.url = url;
    }

    /** A browser that nobody else uses, with an eye on what its pages complain of. */
    async browser(t, options = {}) {
        this.#browser ??= await chromium.launch({
            executablePath: CHROMIUM,
            args: process.getuid() === 0 ? ["--no-sandbox"] : [],
        });
        const context = await this.#browser.newContext({ baseURL: this.url, ...options });
        context.setDefaultTimeout(DEADLINE);
        const complaints = [];
        // Answers with an error status are told as errors, too; a test that wants one says so.
        const wanted = new Set();
        context.on("console", (message) => {
            if (message.type() !== "error") return;
            const status = message.text().match(/status of (\d+)/)?.[1];
            if (!wanted.has(status)) complaints.push(`${message.text()} (${message.location().url})`);
        });
        context.on("weberror", (error) => complaints.push(String(error.error())));
        t.after(() => assert.deepEqual(complaints, [], "no page complained"));
        const page = await context.newPage();
        page.expectStatus = (status) => wanted.add(String(status));
        return page;
    }

    /** A browser in which the admin, or who else is named, has logged in. */
    async loggedIn(t, email = ADMIN, options = {}) {
        const page = await this.browser(t, options);
        await logIn(page, email);
        await page.getByRole("heading", { level: 1 }).waitFor();
        assert.equal(new URL(page.url()).pathname, "/admin/");
        return page;
    }

    /** One request to the JSON API; gives the body, and fails on another status than the one that is wanted. */
    async api(method, path, { token, body, status = method === "POST" ? 201 : 200 } = {}) {
        const headers = {};
        if (token) headers.authorization = `Bearer ${token}`;
        if (body !== undefined) headers["content-type"] = "application/json";
        const sent = body === undefined ? undefined : JSON.stringify(body);
        const answer = await fetch(this.url + path, { method, headers, body: sent });
        const text = await answer.text();
        assert.equal(answer.status, status, `${method} ${path}: ${text}`);
        return text ? JSON.parse(text) : null;
    }

    /** The admin's access token. */
    async adminToken() {
        const body = { email: ADMIN, password: PASSWORD };
        return (await this.api("POST", "/auth/api/token/", { body, status: 200 })).access;
    }

    /** A new customer: the answer to his registration, with `access` in it. */
    async customer(name, more = {}) {
        const body = {
            email: `${name}@example.com`,
            username: name,
            password: PASSWORD,
            password_confirm: PASSWORD,
            ...more,
        };
        return this.api("POST", "/auth/api/register/", { body });
    }

    /** A new product in a category that is made when it is missing. */
    async product(name, { stock = 10, price = "19.99", category = "Lamps", ...more } = {}) {
        const token = await this.adminToken();
        const known = await this.api("GET", "/api/categories/?page_size=100");
        const found = known.results.find((one) => one.name === category);
        const of = found ?? (await this.api("POST", "/api/categories/", { token, body: { name: category } }));
        const body = { name, stock, price, category: of.id, ...more };
        return this.api("POST", "/api/products/", { token, body });
    }

    /** The customer orders so many of the product. */
    async order(customer, product, quantity = 1, details = {}) {
        const token = customer.access;
        await this.api("POST", "/api/cart/items/", { token, body: { product_id: product.id, quantity } });
        return this.api("POST", "/api/orders/", { token, body: details });
    }

    /** A page of the customer's that listens to his notifications; `events()` gives what was told so far. */
    async listen(t, customer) {
        const page = await this.browser(t);
        // Any page of the shop's own origin will do; this one has no icon.
        page.expectStatus(404);
        await page.goto("/healthz");
        const { ticket } = await this.api("POST", "/auth/api/ws-ticket/", { token: customer.access });
        const path = `/ws/notifications/${customer.id}/?ticket=${ticket}`;
        await page.evaluate(async (address) => {
            window.told = [];
            const socket = new WebSocket(address);
            await new Promise((resolve, reject) => {
                socket.onmessage = (message) => {
                    window.told.push(JSON.parse(message.data));
                    resolve();
                };
                socket.onclose = () => reject(new Error("the socket was closed"));
            });
        }, this.url.replace("http", "ws") + path);
        return {
            /** Waits until so many events of this type were told, and gives them. */
            async until(type, count) {
                await page.waitForFunction(
                    ([type, count]) => window.told.filter((event) => event.type === type).length >= count,
                    [type, count],
                );
                const told = await page.evaluate(() => window.told);
                return told.filter((event) => event.type === type);
            },
        };
    }

    async close() {
        await this.#browser?.close();
    }
}

/** Fills in and sends the login form, wherever the page is. */
export async function logIn(page, email, password = PASSWORD) {
    await page.goto("/admin/login/");
    await page.getByLabel("Email").fill(email);
    await page.getByLabel("Password").fill(password);
    await page.getByRole("button", { name: "Log in" }).click();
}
