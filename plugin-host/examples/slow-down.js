'use strict'
// Receivers that refuse us get less: more than 10 temporary failures within a minute at an MX lower its rate to 10 messages
// a minute, for 5 minutes. policy.yaml needs a policy with the field remotemx, whose buckets then obey.

const { cache, policy, rate } = require('sluice')

// Once in five minutes for each host, however many failures there are.
const slowDown = cache(300, (mx) => policy.add({
    if: { remotemx: mx }, then: { rate: '10/60', tag: 'slow-down' }, ttl: 300, class: 'back_off', reason: 'more than 10 failures a minute',
}))

exports.hook_deferred = async function (next, hmail) {
    next() // Mail does not wait for us.
    const mx = hmail.mx && hmail.mx.from_dns
    if (!mx || await rate('failures', mx, 10, 60)) return
    await slowDown(mx)
}
