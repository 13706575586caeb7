// Orders: k6 run -e SOUK_TOKENS=tokens.txt loadtest/k6/checkout.js

import { arrivals, buy, goods_for_shoppers } from './souk.js'

export const options = arrivals(50, 500)
export const setup = goods_for_shoppers

export default function ({ products }) {
    buy(products)
}
