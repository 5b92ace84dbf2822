package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/fanfare-im/fanfare"
)

// What is known of people, so that there is somebody else to push to than all: a tier, and subjects that they follow.
const attribute = "tier"

var (
	tiers    = []string{"free", "silver", "gold"}
	subjects = []string{"news", "offers"}
)

// about is what a user has told.
type about struct {
	Tier string   `json:"tier"`
	Tags []string `json:"tags"`
}

// profile is what is known of the user; with data it is that from then on.
func (s *server) profile(ctx context.Context, user string, data []byte) (any, error) {
	var in about
	if len(data) > 0 && string(data) != "null" {
		if json.Unmarshal(data, &in) != nil || !slices.Contains(tiers, in.Tier) || slices.ContainsFunc(in.Tags, func(t string) bool { return !slices.Contains(subjects, t) }) {
			return nil, refusal("that is no tier, or no subject, that there is")
		}
		var b fanfare.Batch
		b.SetAttributes(user, map[string]string{attribute: in.Tier})
		b.RemoveTags(user, subjects...)
		b.AddTags(user, in.Tags...)
		if err := s.p.Apply(ctx, &b); err != nil {
			return nil, err
		}
	}
	u, err := s.p.User(ctx, user)
	if err != nil && !errors.Is(err, fanfare.ErrUnknownUser) {
		return nil, err
	}
	return about{u.Attributes[attribute], append([]string{}, u.Tags...)}, nil
}
