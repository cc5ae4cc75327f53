exports.hook_delivered = next => next()
