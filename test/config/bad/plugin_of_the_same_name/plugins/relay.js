// an older relay plugin
