# A package, so that no `tests` of an installed library is found instead.
