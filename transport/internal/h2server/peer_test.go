package h2server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func newServer(t testing.TB, o Options) *Server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	self := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, self, self, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	o.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	if o.Handler == nil {
		o.Handler = func(*Request) Response { return Response{} }
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Serve(l, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// peer is a client that does frame by frame what a test says.
type peer struct {
	t      testing.TB
	conn   *tls.Conn
	fr     *http2.Framer
	enc    *hpack.Encoder
	block  bytes.Buffer
	answer map[uint32]*answered
	limits []uint32 // MAX_CONCURRENT_STREAMS as announced
	away   *http2.GoAwayFrame
	awayID uint32
}

type answered struct {
	status int
	body   []byte
	ended  bool
	reset  http2.ErrCode
	broken bool // reset
}

func dial(t testing.TB, s *Server, settings ...http2.Setting) *peer {
	t.Helper()
	conn, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, conn: conn, fr: http2.NewFramer(conn, conn), answer: make(map[uint32]*answered)}
	p.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	p.do(p.fr.WriteSettings(settings...))
	p.until(func() bool { return len(p.limits) == 1 })
	return p
}

func (p *peer) do(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) encode(fields ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.do(p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return slices.Clone(p.block.Bytes())
}

func (p *peer) headers(id uint32, end bool, more ...string) {
	p.t.Helper()
	fields := append([]string{":method", "POST", ":scheme", "https", ":path", "/" + strconv.Itoa(int(id)), ":authority", "x"}, more...)
	p.do(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(fields...), EndHeaders: true, EndStream: end}))
}

// step reads one frame; false at the end of the connection.
func (p *peer) step() bool {
	p.t.Helper()
	f, err := p.fr.ReadFrame()
	if err != nil {
		var late net.Error
		if e, ok := err.(net.Error); ok {
			late = e
		}
		if late != nil && late.Timeout() {
			p.t.Fatal("the server does not say what the test waits for")
		}
		return false
	}
	a := p.answer[f.Header().StreamID]
	if a == nil {
		a = new(answered)
		p.answer[f.Header().StreamID] = a
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if v, ok := f.Value(http2.SettingMaxConcurrentStreams); ok {
			p.limits = append(p.limits, v)
			p.do(p.fr.WriteSettingsAck())
		}
	case *http2.MetaHeadersFrame:
		a.status, _ = strconv.Atoi(f.PseudoValue("status"))
		a.ended = f.StreamEnded()
	case *http2.DataFrame:
		a.body = append(a.body, f.Data()...)
		a.ended = f.StreamEnded()
	case *http2.RSTStreamFrame:
		a.reset, a.broken = f.ErrCode, true
	case *http2.GoAwayFrame:
		p.away, p.awayID = f, f.LastStreamID
	case *http2.PingFrame:
		a.ended = f.IsAck()
	}
	return true
}

func (p *peer) until(done func() bool) {
	p.t.Helper()
	for !done() {
		if !p.step() {
			p.t.Fatal("the connection ended")
		}
	}
}

func (p *peer) untilEnd() {
	p.t.Helper()
	for p.step() {
	}
}

func (p *peer) untilAnswer(id uint32) *answered {
	p.t.Helper()
	p.until(func() bool { a := p.answer[id]; return a != nil && (a.ended || a.broken) })
	return p.answer[id]
}
