package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/fanfare-im/fanfare/rest/usersig"
	"github.com/fanfare-im/fanfare/transport"
)

// listen is a user's app, for trying things out: it connects, prints each message, and acknowledges it. It ends with ctx, or with the connection.
func listen(ctx context.Context, args []string, getenv func(string) string, out, log io.Writer) error {
	flags := flag.NewFlagSet("listen", flag.ContinueOnError)
	sdkAppID := flags.Int64("sdkappid", 0, "`number` of the application (FANFARE_SDKAPPID)")
	key := keyFlag(flags)
	identifier := flags.String("identifier", "", "the `user` who connects, known from then on")
	gateway := flags.String("url", "ws://127.0.0.1:8080/ws", "`address` of the server's gateway")
	if err := parse(flags, args, getenv, log); err != nil {
		return err
	}
	keys, err := splitKeys(*key)
	switch {
	case err != nil:
		return err
	case *sdkAppID <= 0:
		return errors.New("-sdkappid is needed, a number above 0")
	case !isIdentifier(*identifier):
		return fmt.Errorf("-identifier is needed, 1 to %d bytes of UTF-8", maxIdentifier)
	}
	ws, err := dial(ctx, *gateway, *sdkAppID, *identifier, keys[0])
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%s is connected. What comes is shown here, until you press Ctrl+C.\n", *identifier); err != nil {
		return errors.Join(err, ws.CloseNow())
	}
	return receive(ctx, ws, func(m incoming) error {
		_, err := fmt.Fprintf(out, "%s from %q: %s\n", time.UnixMilli(m.Time).Format(time.TimeOnly), m.From, spoken(m.Body))
		return err
	})
}

// dial connects a user to a gateway.
func dial(ctx context.Context, gateway string, sdkAppID int64, identifier string, key transport.Secret) (*websocket.Conn, error) {
	sig := usersig.Sign(usersig.Sig{Identifier: identifier, SDKAppID: sdkAppID, Expire: 24 * time.Hour}, key)
	q := url.Values{"sdkappid": {strconv.FormatInt(sdkAppID, 10)}, "identifier": {identifier}, "usersig": {sig}}
	ws, resp, err := websocket.Dial(ctx, gateway+"?"+q.Encode(), nil)
	switch {
	case err == nil:
		ws.SetReadLimit(1 << 20)
		return ws, nil
	case resp != nil: // the error may have the address in it, and so the UserSig
		return nil, fmt.Errorf("%s answers %s", gateway, resp.Status)
	}
	return nil, fmt.Errorf("%s cannot be reached", gateway)
}

// incoming is a message as the gateway hands it over.
type incoming struct {
	ID, From string
	Time     int64
	Body     json.RawMessage
}

// receive hands on what comes, and acknowledges it, until ctx ends, which is no error.
func receive(ctx context.Context, ws *websocket.Conn, f func(incoming) error) error {
	defer func() { _ = ws.Close(websocket.StatusNormalClosure, "") }()
	for {
		var m incoming
		if err := wsjson.Read(ctx, ws, &m); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the connection has ended: %w", err)
		}
		if err := f(m); err != nil {
			return err
		}
		if err := wsjson.Write(ctx, ws, map[string]string{"ack": m.ID}); err != nil && ctx.Err() == nil {
			return fmt.Errorf("the connection has ended: %w", err)
		}
	}
}

// spoken is the text of a body, or the body as it is.
func spoken(body json.RawMessage) string {
	var b struct {
		MsgBody []struct {
			MsgContent struct{ Text string }
		}
	}
	if json.Unmarshal(body, &b) == nil && len(b.MsgBody) == 1 && b.MsgBody[0].MsgContent.Text != "" {
		return b.MsgBody[0].MsgContent.Text
	}
	return string(body)
}
