package centrifuge

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/fanfare-im/fanfare"
)

// AckMethod is the method of the RPC by which a client acknowledges messages.
const AckMethod = "fanfare.ack"

const (
	maxAcks     = 256      // in a call; the library has 64 messages with retention on their way to a user
	maxAckBytes = 16 << 10 // of a call
	ackTimeout  = 5 * time.Second
)

// RPC answers a call if it is an acknowledgement, and says whether it was one: the host calls it in OnRPC, first.
//
// It returns when the acknowledgement is on the disk, or has failed: the client's next command waits for it, so that a client has one at work on each connection. IDs of
// messages that there are not any more are done with.
func (h *Hub) RPC(client *centrifuge.Client, e centrifuge.RPCEvent, reply centrifuge.RPCCallback) bool {
	if e.Method != AckMethod {
		return false
	}
	reply(centrifuge.RPCReply{Data: []byte("{}")}, h.ack(client.UserID(), e.Data))
	return true
}

func (h *Hub) ack(user string, data []byte) error {
	var in struct {
		IDs []string `json:"ids"`
	}
	if len(data) > maxAckBytes || json.Unmarshal(data, &in) != nil || len(in.IDs) == 0 || len(in.IDs) > maxAcks {
		return centrifuge.ErrorBadRequest
	}
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	err := h.p.Ack(ctx, user, in.IDs[0], in.IDs[1:]...)
	if errors.Is(err, fanfare.ErrUnknownTask) { // and then none of them counts
		known := slices.DeleteFunc(in.IDs, func(id string) bool {
			_, err := h.p.Task(ctx, id)
			return errors.Is(err, fanfare.ErrUnknownTask)
		})
		if len(known) == 0 {
			return nil
		}
		err = h.p.Ack(ctx, user, known[0], known[1:]...)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fanfare.ErrUnknownUser):
		return DisconnectUnknownUser
	case errors.Is(err, fanfare.ErrClosed):
		return centrifuge.DisconnectShutdown
	}
	h.log.Error("an ack failed", "user", user, "error", err)
	return centrifuge.ErrorInternal // which is temporary: the client tries again, or the message comes again
}
