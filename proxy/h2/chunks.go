package h2

// chunks are what has come of a body and was not read.
type chunks []chunk

// A chunk is a piece of a body; buf[from:] is unused.
type chunk struct {
	buf  []byte
	from int
}

// put puts p behind the others; got is the length of the body, with p.
func (q *chunks) put(p []byte, got int64, pool *buffers) {
	for len(p) > 0 {
		last := len(*q) - 1
		if last < 0 || len((*q)[last].buf) == cap((*q)[last].buf) {
			fresh := chunk{}
			if last >= 0 || got > firstBytes {
				fresh.buf = pool.takeChunk()
			} else {
				fresh.buf = pool.takeFirst()
			}
			*q = append(*q, fresh)
			last++
		}
		buf := (*q)[last].buf
		n := min(len(p), cap(buf)-len(buf))
		(*q)[last].buf = append(buf, p[:n]...)
		p = p[n:]
	}
}

// first is what comes next, at most most of it. It stays until use.
func (q chunks) first(most int) []byte {
	c := &q[0]
	return c.buf[c.from:min(len(c.buf), c.from+most)]
}

// use uses up n bytes of what first has shown.
func (q *chunks) use(n int, pool *buffers) {
	c := &(*q)[0]
	if c.from += n; c.from == len(c.buf) {
		pool.give(c.buf)
		*q = append((*q)[:0], (*q)[1:]...)
	}
}

// part is use, but that what first has shown stays as it is.
func (q *chunks) part(n int, pool *buffers) {
	rest := (*q)[0].buf[(*q)[0].from+n:]
	if len(rest) == 0 {
		*q = append((*q)[:0], (*q)[1:]...)
		return
	}
	(*q)[0] = chunk{buf: append(pool.takeChunk(), rest...)}
}

// drop throws all away, and returns how much it was.
func (q *chunks) drop(pool *buffers) (dropped int) {
	for i := range *q {
		c := &(*q)[i]
		dropped += len(c.buf) - c.from
		pool.give(c.buf)
		c.buf = nil
	}
	*q = (*q)[:0]
	return dropped
}
