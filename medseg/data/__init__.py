"""From a folder of labelled cases to prepared arrays: layouts, checks, splits, fingerprint, cache, sampler."""
