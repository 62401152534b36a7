package board

import "sync/atomic"

// quicMost bounds what a row may say of its connections: more is a lie.
const quicMost = 1 << 32

// QUIC is where this row counts its connections of QUIC. It counts them for people alone.
func (b *Board) QUIC() *atomic.Uint64 { return b.memory.quicOf(b.row) }

// QUIC is how many connections of QUIC a row says that it has.
func (m *Memory) QUIC(row int) int { return int(min(m.quicOf(row).Load(), quicMost)) }

func (m *Memory) quicOf(row int) *atomic.Uint64 { return &m.all[m.rows+row*m.stride+m.quic] }
