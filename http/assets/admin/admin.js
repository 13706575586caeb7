// What makes the site more comfortable; everything works without it.
"use strict";

// Parts of a page that show what happens: asked for again every few seconds while the page is seen. New rows are lit up.
for (const part of document.querySelectorAll("[data-live]")) {
    const every = Number(part.dataset.every);
    const note = document.getElementById(`${part.id}-note`);
    const said = note.textContent;
    let shown = "";
    let failures = 0;

    const known = () => new Set(Array.from(part.querySelectorAll("[data-id]"), (row) => row.dataset.id));

    const show = (text) => {
        if (text === shown) return;
        shown = text;
        const before = known();
        part.innerHTML = text;
        for (const row of part.querySelectorAll("[data-id]")) {
            if (!before.has(row.dataset.id)) row.classList.add("arrived");
        }
    };

    const ask = async () => {
        if (document.hidden) {
            document.addEventListener("visibilitychange", ask, { once: true });
            return;
        }
        try {
            const answer = await fetch(part.dataset.live, { headers: { accept: "text/html" } });
            if (answer.status === 401) {
                note.textContent = "Your session has ended: reload the page to log in.";
                return;
            }
            if (!answer.ok) throw new Error(String(answer.status));
            show(await answer.text());
            failures = 0;
            note.textContent = said;
        } catch {
            failures += 1;
            note.textContent = "The shop does not answer at the moment; trying again.";
        }
        setTimeout(ask, every * Math.min(2 ** failures, 8));
    };
    setTimeout(ask, every);
}

// A box that ticks all the others of its table.
for (const all of document.querySelectorAll("[data-all]")) {
    all.hidden = false;
    const boxes = () => all.closest("form").querySelectorAll(`input[name="${all.dataset.all}"]`);
    all.addEventListener("change", () => boxes().forEach((box) => (box.checked = all.checked)));
}

// What was chosen is shown before it is sent.
for (const input of document.querySelectorAll("input[data-preview]")) {
    const preview = document.getElementById(input.dataset.preview);
    input.addEventListener("change", () => {
        const [file] = input.files;
        if (!file) return;
        preview.src = URL.createObjectURL(file);
        preview.hidden = false;
    });
}

// A form is sent once: a second click does nothing, and long work says that it goes on.
for (const form of document.querySelectorAll("form[method=post]")) {
    form.addEventListener("submit", (event) => {
        if (form.dataset.sent) {
            event.preventDefault();
            return;
        }
        form.dataset.sent = "yes";
        form.classList.add("is-working");
    });
}
addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
        delete form.dataset.sent;
        form.classList.remove("is-working");
    }
});
