package fanfare

import "cmp"

// phoneQueue is a heap of tasks by when they have something to do. The committer takes part in it with each push
// and each end, and there may be a great many tasks within their grace.
type phoneQueue []*phoneTask

func (q phoneQueue) Len() int { return len(q) }
func (q phoneQueue) Less(i, j int) bool {
	return cmp.Or(q[i].at.Compare(q[j].at), cmp.Compare(q[i].seq, q[j].seq)) < 0
}
func (q phoneQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}
func (q *phoneQueue) Push(t any) {
	t.(*phoneTask).place = len(*q)
	*q = append(*q, t.(*phoneTask))
}
func (q *phoneQueue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return t
}
