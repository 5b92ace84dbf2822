package cluster

import ("context";"log/slog";"github.com/nats-io/nats.go";"io")
type presence struct{}
func newPresence(*nats.Conn, string,string, *slog.Logger) *presence { return &presence{} }
func (*presence) Start(uint64, func([]uint32, func(uint64))) error { return nil}
func (*presence) Joined(uint32) {}
func (*presence) Left(uint32) {}
func (*presence) Elsewhere(uint32) bool { return false}
func (*presence) Others() int {return 0}
func (*presence) Nodes() []uint64 { return nil}
func (*presence) Settle(context.Context,uint32) (uint64,error) {return 0,nil}
func (*presence) Close() error {return nil}
type leases struct{ mine bool}
func (l *leases) Hold(ctx context.Context, _ string, work func(context.Context)) { if l.mine { work(ctx) } else {<-ctx.Done()} }
type members struct{}
func (*members) folded(uint64) {}
type snapshots struct{}
func (*snapshots) await(context.Context, uint64) (uint64, io.ReadCloser, error) { panic("x") }
