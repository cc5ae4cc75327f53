'use strict'

const assert = require('node:assert')
const { test } = require('node:test')
const { addressMaker, extrasOf } = require('../lib/addresses')

const ODD = [
    ['<"a b"@x.test>', 'x.test'], ['<a@[192.0.2.1]>', '[192.0.2.1]'], ['<a@[IPv6:2001:db8::1]>', null],
    ['<d\u00fcr@b\u00fccher.test>', null], ['<postmaster>', ''], [`<${'l'.repeat(64)}@x.test>`, 'x.test'],
    [`<${'l'.repeat(200)}@x.test>`, 'x.test'], ['<a..b@x.test>', 'x.test'], ['<\u0001@x.test>', null], ['<a@x_y.test>', 'x_y.test'],
]

for (const generation of ['3.1', '3.2', 'both']) {
    test(`whatever the engine accepts has an address as of Haraka ${generation}`, () => {
        const make = addressMaker(generation)
        for (const [original, host] of ODD) {
            let address
            try {
                address = make(original)
            } catch (error) {
                // Control characters are the one thing that the engine never accepts.
                assert.match(original, /\u0001/, `${original}: ${error.message}`)
                continue
            }
            if (host !== null) assert.strictEqual(String(address.host), host, original)
            assert.strictEqual(String(address.original), original)
            assert.deepStrictEqual(extrasOf(address), {}, original)
            address.mark = 1
            assert.deepStrictEqual(extrasOf(address), { mark: 1 })
        }
        assert.strictEqual(make('<>').isNull(), true)
    })
}
