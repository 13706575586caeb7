// 80 % lists, 15 % products, 5 % orders: k6 run -e SOUK_TOKENS=tokens.txt loadtest/k6/mixed.js

import { any, arrivals, buy, get, goods_for_shoppers } from './souk.js'

export const options = arrivals(200, 250)
export const setup = goods_for_shoppers

export default function ({ products }) {
    const choice = Math.random()
    if (choice < 0.8) get('/api/products/', 'list')
    else if (choice < 0.95) get(`/api/products/${any(products)}/`, 'detail')
    else buy(products)
}
