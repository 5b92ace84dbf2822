package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/fanfare-im/fanfare"
)

type inspectCommand struct {
	Dir string `arg:"" help:"The directory."`
	Top int    `default:"10" help:"How many of the largest postings to name."`
}

// inspection is what there is to say of a directory.
type inspection struct {
	Directory string `json:"directory"`
	StoreID   string `json:"storeId"`
	Closed    bool   `json:"closed"` // the last process closed it completely
	Replay    struct {
		Records int64 `json:"records"`
		Bytes   int64 `json:"bytes"`
		Segment bool  `json:"segment"`
	} `json:"replay"`
	Position       uint64        `json:"position"`
	Users          int64         `json:"users"`
	Pushes         int64         `json:"pushes"`
	Tasks          unended       `json:"tasks"`
	Plans          unended       `json:"plans"`
	SavedAudiences int64         `json:"savedAudiences"`
	Pending        pendingCount  `json:"pending"`
	Platforms      []userCount   `json:"platforms"`
	Files          []fileSpace   `json:"files"`
	Postings       []kindSpace   `json:"postings"`
	Largest        []postingJSON `json:"largest"`
}

// unended counts tasks or plans.
type unended struct {
	Known   int64 `json:"known"`
	Unended int64 `json:"unended"`
}

type pendingCount struct {
	Messages   int64 `json:"messages"`
	Deliveries int64 `json:"deliveries"` // users who wait, for each message
}

type userCount struct {
	Platform string `json:"platform"`
	Users    int64  `json:"users"`
}

type fileSpace struct {
	Name   string `json:"name"`
	Format int    `json:"format"`
	Bytes  int64  `json:"bytes"`
	Free   int64  `json:"free"`
}

type kindSpace struct {
	Kind  string `json:"kind"`
	Count int64  `json:"count"`
	Bytes int64  `json:"bytes"`
}

type postingJSON struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"` // where there is an audience of these users, that
	Users int64  `json:"users"`
	Bytes int64  `json:"bytes"`
}

func (cmd *inspectCommand) Run(c *call) error {
	return c.look(cmd.Dir, func(p *fanfare.Pusher) error {
		i := &inspection{Directory: cmd.Dir}
		for _, read := range []func(*call, *fanfare.Pusher) error{i.stats, i.tasks, i.plans} {
			if err := read(c, p); err != nil {
				return err
			}
		}
		if err := i.postings(c, p, max(0, cmd.Top)); err != nil {
			return err
		}
		if c.json {
			return c.object(i)
		}
		return i.print(c)
	})
}

func (i *inspection) stats(c *call, p *fanfare.Pusher) error {
	s, err := p.Stats(c.ctx)
	if err != nil {
		return err
	}
	i.StoreID, i.Position, i.Users, i.Pushes = s.StoreID, s.Position, s.Users, s.Pushes
	i.Replay.Records, i.Replay.Bytes, i.Replay.Segment = s.Found.Records, s.Found.Bytes, s.Found.Segment
	i.Closed = s.Found == fanfare.Found{}
	files, err := p.Files(c.ctx)
	for _, f := range files {
		i.Files = append(i.Files, fileSpace(f))
	}
	return err
}

func (i *inspection) tasks(c *call, p *fanfare.Pusher) error {
	now := time.Now()
	for task, err := range p.Tasks(c.ctx) {
		if err != nil {
			return err
		}
		g, err := task.Progress()
		if err != nil {
			return err
		}
		i.Tasks.Known++
		if g.Ended.IsZero() {
			i.Tasks.Unended++
		}
		if g.Pending > 0 && task.Info().Expires.After(now) { // else they wait for nothing any more: nobody was there to note it
			i.Pending.Messages++
			i.Pending.Deliveries += g.Pending
		}
	}
	return nil
}

func (i *inspection) plans(c *call, p *fanfare.Pusher) error {
	for plan, err := range p.Plans(c.ctx) {
		if err != nil {
			return err
		}
		info, err := plan.Info(c.ctx)
		if err != nil {
			return err
		}
		i.Plans.Known++
		if info.Ended.IsZero() {
			i.Plans.Unended++
		}
	}
	for _, err := range p.SavedAudiences(c.ctx) {
		if err != nil {
			return err
		}
		i.SavedAudiences++
	}
	return nil
}

// postings adds the sets up by kind, and keeps the largest.
func (i *inspection) postings(c *call, p *fanfare.Pusher, top int) error {
	names, err := p.AttributeNames(c.ctx)
	if err != nil {
		return err
	}
	i.Platforms, i.Postings, i.Largest = []userCount{}, []kindSpace{}, []postingJSON{}
	larger := func(a, b postingJSON) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Users, a.Users), cmp.Compare(a.Name, b.Name))
	}
	for f, err := range p.Postings(c.ctx) {
		if err != nil {
			return err
		}
		if f.Kind == fanfare.PostingPlatform {
			i.Platforms = append(i.Platforms, userCount{f.Value, f.Users})
		}
		n := len(i.Postings)
		if n == 0 || i.Postings[n-1].Kind != string(f.Kind) { // they come kind by kind
			i.Postings = append(i.Postings, kindSpace{Kind: string(f.Kind)})
			n++
		}
		i.Postings[n-1].Count++
		i.Postings[n-1].Bytes += f.Bytes
		one := postingJSON{string(f.Kind), postingName(f, names), f.Users, f.Bytes}
		at, _ := slices.BinarySearchFunc(i.Largest, one, larger)
		if at < top {
			i.Largest = slices.Insert(i.Largest, at, one)
			i.Largest = i.Largest[:min(top, len(i.Largest))]
		}
	}
	return nil
}

// postingName is the audience of the users, where there is one.
func postingName(f fanfare.Posting, names map[int]string) string {
	attribute, has := names[f.Slot]
	if !has {
		attribute = "of slot " + strconv.Itoa(f.Slot)
	}
	switch f.Kind {
	case fanfare.PostingUser:
		return fanfare.All().String()
	case fanfare.PostingTag:
		return fanfare.Tag(f.Value).String()
	case fanfare.PostingPlatform:
		return fanfare.Platform(f.Value).String()
	case fanfare.PostingLanguage:
		return fanfare.Language(f.Value).String()
	case fanfare.PostingTimeZone:
		return fanfare.TimeZone(f.Value).String()
	case fanfare.PostingAttribute:
		if has {
			return fanfare.Attr(attribute, f.Value).String()
		}
		return "attribute " + attribute + " = " + strconv.Quote(f.Value)
	case fanfare.PostingHasAttribute:
		if has {
			return fanfare.HasAttr(attribute).String()
		}
		return "attribute " + attribute
	case fanfare.PostingBit:
		if has {
			attribute = strconv.Quote(attribute)
		}
		return "bit " + f.Value + " of attribute " + attribute
	}
	return string(f.Kind) + " " + plain(f.Value)
}

func (i *inspection) print(c *call) error {
	closed := "by a complete close"
	if !i.Closed {
		closed = "no: the next opening replays " + counted(i.Replay.Records, "record") + " of the journal, " + size(i.Replay.Bytes)
		if i.Replay.Segment {
			closed += ", and goes on folding a segment"
		}
	}
	var t table
	t.row("directory", plain(i.Directory))
	t.row("store", i.StoreID)
	t.row("closed", closed)
	t.row("position", number(int64(i.Position)))
	t.row("users", number(i.Users))
	for _, of := range i.Platforms {
		t.row("  on "+plain(of.Platform), number(of.Users))
	}
	t.row("pushes", number(i.Pushes))
	t.row("tasks", fmt.Sprintf("%s, %s not ended", number(i.Tasks.Known), number(i.Tasks.Unended)))
	t.row("pending", fmt.Sprintf("%s, to be received %s", counted(i.Pending.Messages, "message"), counted(i.Pending.Deliveries, "time")))
	t.row("plans", fmt.Sprintf("%s, %s not ended", number(i.Plans.Known), number(i.Plans.Unended)))
	t.row("saved", counted(i.SavedAudiences, "audience"))
	files := table{right: 0b1110}
	files.row("file", "format", "size", "free")
	for _, f := range i.Files {
		files.row(f.Name, strconv.Itoa(f.Format), size(f.Bytes), size(f.Free))
	}
	kinds := table{right: 0b110}
	kinds.row("postings", "count", "size")
	for _, k := range i.Postings {
		kinds.row(k.Kind, number(k.Count), sizeInBlocks(k.Bytes))
	}
	largest := table{right: 0b11}
	largest.row("users", "size", "largest postings")
	for _, f := range i.Largest {
		largest.row(number(f.Users), sizeInBlocks(f.Bytes), f.Name)
	}
	for n, t := range []table{t, files, kinds, largest} {
		if n > 0 {
			fmt.Fprintln(c.out)
		}
		if err := t.print(c.out); err != nil {
			return err
		}
	}
	return nil
}

// sizeInBlocks is that of sets of users; those that have none are in the journal alone.
func sizeInBlocks(n int64) string {
	if n == 0 {
		return "-"
	}
	return size(n)
}
