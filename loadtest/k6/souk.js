// What the k6 scripts beside this file share: where the shop is, who shops, and how often.
//
// From the environment: SOUK_URL, the shop (http://127.0.0.1:8000); SOUK_TOKENS, the file that `souk seed --users N
// --tokens FILE` wrote (checkout and mixed); RATE, arrivals a second; DURATION, such as 30s.

import exec from 'k6/execution'
import http from 'k6/http'
import { check, fail } from 'k6'
import { SharedArray } from 'k6/data'
import { Counter } from 'k6/metrics'

const shop = (__ENV.SOUK_URL || 'http://127.0.0.1:8000').replace(/\/+$/, '')

/** Requests that were refused with 503 and Retry-After, which is right when there are too many. */
const refused = new Counter('souk_refused')

const tokens = new SharedArray('tokens', () => {
    if (!__ENV.SOUK_TOKENS) return []
    return open(__ENV.SOUK_TOKENS).split('\n').map((line) => line.trim()).filter((line) => line)
})

/** Arrivals by the clock: a slow answer holds up nobody, so its wait is not hidden. */
export function arrivals(rate, p99) {
    return {
        scenarios: {
            arrivals: {
                executor: 'constant-arrival-rate',
                rate: Number(__ENV.RATE || rate),
                timeUnit: '1s',
                duration: __ENV.DURATION || '30s',
                preAllocatedVUs: 50,
                maxVUs: 500,
            },
        },
        thresholds: {
            checks: ['rate==1'],
            dropped_iterations: ['count==0'],
            http_req_duration: [`p(99)<${__ENV.P99 || p99}`],
        },
        summaryTrendStats: ['med', 'p(90)', 'p(99)', 'p(99.9)', 'max'],
        userAgent: 'souk-k6',
        // Each path's number of its own would make a time series of its own.
        systemTags: ['status', 'method', 'name', 'check', 'scenario', 'error', 'expected_response'],
    }
}

/** Good, or a proper refusal; anything else is a fault. */
function good(answer, status, what) {
    const is_refusal = answer.status === 503 && Number(answer.headers['Retry-After']) >= 0
    if (is_refusal) refused.add(1)
    check(answer, { [`${what} is ${status}`]: () => is_refusal || answer.status === status })
    return answer.status === status
}

export function get(path, what) {
    const answer = http.get(shop + path, { tags: { name: what } })
    return good(answer, 200, what) ? answer : null
}

/** The ids of a hundred products that can be bought, and words of their names; for `setup`. */
export function goods() {
    const answer = http.get(`${shop}/api/products/?in_stock=true&page_size=100`)
    if (answer.status !== 200) fail(`${shop}: ${answer.status} ${answer.error}`)
    const products = answer.json('results')
    if (products.length < 10) fail(`${shop} has too few products in stock: souk seed brings some`)
    const words = products.flatMap((product) => product.name.toLowerCase().match(/[a-z]{3,}/g) || [])
    // Those with the most units, so that the run ends before they do.
    const by_stock = products.sort((one, other) => other.stock - one.stock).slice(0, 50)
    return { products: by_stock.map((product) => product.id), words: [...new Set(words)] }
}

/** The same where people buy. */
export function goods_for_shoppers() {
    if (tokens.length < 50) fail('SOUK_TOKENS must name a file of 50 tokens or more: souk seed --users N --tokens FILE')
    return goods()
}

/** The number of this arrival, over all VUs. */
export const number = () => exec.scenario.iterationInTest

export const any = (list) => list[Math.floor(Math.random() * list.length)]

/** Puts one unit into a shopper's cart and checks it out; refused, it asks again with the same key. */
export function buy(products) {
    // The same shopper comes again only when all others have come, so his last order is long done.
    const headers = {
        'Authorization': `Bearer ${tokens[number() % tokens.length]}`,
        'Content-Type': 'application/json',
    }
    const line = JSON.stringify({ product_id: any(products), quantity: 1 })
    const put = http.post(`${shop}/api/cart/items/`, line, { headers, tags: { name: 'cart' } })
    if (!good(put, 201, 'cart')) return
    headers['Idempotency-Key'] = `k6-${Date.now()}-${number()}-${Math.random()}`
    const body = JSON.stringify({ shipping_address: 'Rheingasse 12, 4058 Basel' })
    for (let attempt = 0; attempt < 3; attempt += 1) {
        const order = http.post(`${shop}/api/orders/`, body, { headers, tags: { name: 'order' } })
        if (order.status !== 503) {
            if (good(order, 201, 'order')) check(order, { 'an order has lines': () => order.json('total_items') > 0 })
            return
        }
        good(order, 201, 'order')
    }
}
