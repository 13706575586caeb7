// Starts Swagger UI. Whoever registers or signs in on the page is signed in from then on, in this browser.
"use strict";

const SIGNS_IN = /^\/auth\/api\/(register|token|token\/refresh)\/?$/;

const ui = SwaggerUIBundle({
    url: "/api/schema/",
    dom_id: "#swagger-ui",
    deepLinking: true,
    persistAuthorization: true,
    tryItOutEnabled: true,
    displayRequestDuration: true,
    docExpansion: "none",
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    responseInterceptor(response) {
        if (response.ok && SIGNS_IN.test(new URL(response.url, location.href).pathname)) {
            try {
                const { access } = JSON.parse(response.text);
                if (access) {
                    const schema = { type: "http", scheme: "bearer" };
                    ui.authActions.authorizeWithPersistOption({ bearer: { name: "bearer", schema, value: access } });
                }
            } catch {
                // Not the answer that it should be; the page shows it as it is.
            }
        }
        return response;
    },
});
