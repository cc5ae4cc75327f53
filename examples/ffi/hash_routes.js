'use strict'
// A JavaScript plugin that calls a shared library: mail of one sender always leaves by the same host, chosen by zlib's CRC-32
// of the sender. config/hash_routes lists the hosts. Needs the package koffi (npm install --prefix DIR koffi).

const koffi = require('koffi')

exports.register = function () {
    const zlib = koffi.load(process.platform === 'darwin' ? 'libz.dylib' : 'libz.so.1')
    this.crc32 = zlib.func('unsigned long crc32(unsigned long crc, const uint8_t *octets, unsigned int size)')
    this.hosts = this.config.get('hash_routes', 'list')
    if (this.hosts.length === 0) throw new Error('config/hash_routes lists no hosts')
}

exports.hook_get_mx = function (next, hmail) {
    const sender = Buffer.from(String(hmail.todo.mail_from))
    // Koffi gives numbers beyond 2^53 as BigInt; a CRC-32 never is one.
    next(OK, this.hosts[Number(this.crc32(0, sender, sender.length)) % this.hosts.length])
}
