// Searches that no cache can answer: k6 run loadtest/k6/search.js

import { any, arrivals, get, goods, number } from './souk.js'

export const options = arrivals(50, 500)
export const setup = goods

// So that a second run does not ask what the first did.
const run = Math.floor(Math.random() * 1e6)

export default function ({ words }) {
    const words_asked = Math.random() < 0.5 ? any(words) : `${any(words)}+${any(words)}`
    const order = any(['name', '-price', '-created_at'])
    const price = `${10000 + run + Math.floor(number() / 100)}.${String(number() % 100).padStart(2, '0')}`
    get(`/api/products/?search=${words_asked}&price_max=${price}&ordering=${order}`, 'search')
}
