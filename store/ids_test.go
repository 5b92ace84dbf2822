package store

func idOf(id string, ordinal uint32) []byte {
	e := newIDEntry(hashID(id), ordinal)
	return e[:]
}
