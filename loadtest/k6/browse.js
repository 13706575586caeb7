// People who look around: k6 run loadtest/k6/browse.js

import { any, arrivals, get, goods } from './souk.js'

export const options = arrivals(200, 250)
export const setup = goods

export default function ({ products }) {
    const choice = Math.random()
    if (choice < 0.35) get('/api/products/', 'list')
    else if (choice < 0.45) get(`/api/products/?page=${1 + Math.floor(Math.random() * 2)}`, 'list')
    else if (choice < 0.6) get('/api/products/?in_stock=true&ordering=price', 'filtered')
    else if (choice < 0.65) get('/api/products/featured/', 'featured')
    else if (choice < 0.7) get('/api/categories/', 'categories')
    else get(`/api/products/${any(products)}/`, 'detail')
}
