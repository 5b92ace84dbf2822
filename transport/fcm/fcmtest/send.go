package fcmtest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// send answers a send.
func (s *Server) send(r *http.Request, project string, body []byte) *reply {
	big := len(body) > maxBody
	d := &decoder{}
	if !big {
		d = decode(body)
	}
	token := ""
	if d.toKind == toToken {
		token = d.to
	}
	if reply := s.ask(r, body, token); reply != nil {
		return reply
	}
	if reply := s.faults.takeNext(); reply != nil {
		return reply
	}
	if reply := s.authorize(r); reply != nil {
		return reply
	}
	if big {
		return s.tooBig()
	}
	return s.judge(r, project, d)
}

func (s *Server) judge(r *http.Request, project string, d *decoder) *reply {
	if d.misread != nil {
		s.problem(d.misread[0].Description)
		return d.reply()
	}
	if t := r.Header.Get("Content-Type"); !strings.HasPrefix(t, "application/json") {
		s.problem(fmt.Sprintf("a send with Content-Type %q", t))
	}
	if project != s.options.Project {
		s.problem(fmt.Sprintf("a send to project %q", project))
		return permissionDenied(project)
	}
	if d.broken != nil {
		if d.broken.Field != "" { // otherwise it is the registration token
			s.problem(d.broken.Description)
		}
		return d.reply()
	}
	to := d.to
	if d.toKind == toTopic {
		to = "/topics/" + to
	}
	if reply := s.faults.of(to); reply != nil {
		return reply
	}
	name := "projects/" + project + "/messages/"
	if d.validateOnly {
		return named(name + "fake_message_id")
	}
	now := s.options.Now()
	id := s.ids.Add(1)
	name += "0:" + strconv.FormatInt(now.UnixMicro(), 10) + "%" + strconv.FormatInt(id, 16)
	s.record.add(to, Message{Name: name, JSON: d.message, At: now})
	s.total.add()
	return named(name)
}

// named is the answer to a message that was accepted.
func named(name string) *reply {
	body := make([]byte, 0, 100)
	body = append(body, "{\n  \"name\": \""...)
	body = append(body, name...) // has nothing that JSON would escape
	body = append(body, "\"\n}\n"...)
	return &reply{status: http.StatusOK, kind: jsonType, body: body}
}
