'use strict'
// A delivered hook that does nothing: what hearing of every delivery costs by itself.

exports.hook_delivered = (next) => next()
