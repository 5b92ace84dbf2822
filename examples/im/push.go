package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
)

// maxPush is the most bytes of a request to push.
const maxPush = 64 << 10

// push sends an announcement, {"text": "…", "to": "all", "from": "operator", "lifetime": 604800, "key": ""}, and answers {"id": "…"} when it is accepted. All but the text may be left out, and there is
// nothing else; a lifetime, in seconds, of 0 means those who are connected now.
func (s *server) push(w http.ResponseWriter, r *http.Request) {
	week := int64(7 * 24 * time.Hour / time.Second)
	in := struct {
		Text, To, From, Key string
		Lifetime            *int64
	}{To: "all", From: "operator", Lifetime: &week}
	request := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPush))
	request.DisallowUnknownFields() // with "to" misspelt it would be for all
	if err := request.Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if strings.TrimSpace(in.Text) == "" || in.Lifetime == nil || *in.Lifetime < 0 || *in.Lifetime > week {
		http.Error(w, "text is needed, and lifetime is 0 seconds to 7 days", http.StatusBadRequest)
		return
	}
	to, err := fanfare.ParseAudience(in.To)
	if err != nil {
		http.Error(w, "to: "+err.Error(), http.StatusBadRequest)
		return
	}
	body, _ := json.Marshal(map[string]string{"text": in.Text}) // of strings there is no error
	task, err := s.p.Push(r.Context(), fanfare.Message{From: in.From, Body: body, To: to, Lifetime: time.Duration(*in.Lifetime) * time.Second, Key: in.Key})
	if err != nil {
		status := http.StatusInternalServerError // of the disk, say
		switch limit := new(fanfare.LimitError); {
		case errors.As(err, &limit), errors.Is(err, fanfare.ErrKeyReused), errors.Is(err, fanfare.ErrUnnamedAttribute), errors.Is(err, fanfare.ErrUnknownAudience), errors.Is(err, fanfare.ErrInvalidText):
			status = http.StatusBadRequest
		case errors.Is(err, fanfare.ErrClosed):
			status = http.StatusServiceUnavailable
		}
		http.Error(w, err.Error(), status)
		return
	}
	answer(w, map[string]any{"id": task.ID})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // to a client that may be gone
}
