// The page: announcements from fanfare and chats, over one connection. An announcement is kept in the browser before it is
// acknowledged, under its ID, so that what comes twice is there once, and what was acknowledged is not lost by closing the tab.
'use strict'

const $ = id => document.getElementById(id)
const keepMost = 200 // announcements of a user

/* What the browser keeps: a key for each announcement, so that tabs of the same user do not write over each other. */
const store = {
  prefix: '',
  at(server, user) {
    this.prefix = `im:${server}:${encodeURIComponent(user)}:`
  },
  get: (kind, id) => store.noted.get(store.prefix + kind + id) ?? localStorage.getItem(store.prefix + kind + id),
  put: (kind, id, value) => localStorage.setItem(store.prefix + kind + id, value),
  // note keeps what may be lost: a browser that keeps no more has it until the page is left.
  noted: new Map(),
  note(kind, id, value) {
    const key = store.prefix + kind + id
    try {
      localStorage.setItem(key, value)
      store.noted.delete(key)
    } catch {
      store.noted.set(key, value)
    }
  },
  ids(kind) {
    const start = this.prefix + kind
    return [...new Set([...Object.keys(localStorage), ...this.noted.keys()])].filter(k => k.startsWith(start)).map(k => k.slice(start.length)).sort()
  },
  trim() { // the IDs sort in the order in which they were sent
    const old = this.ids('a').slice(0, -keepMost)
    for (const id of old) {
      localStorage.removeItem(this.prefix + 'a' + id)
      localStorage.removeItem(this.prefix + 'r' + id)
      this.noted.delete(this.prefix + 'r' + id)
    }
    return old
  },
  only(server) { // what is of a server that is not there any more is nobody's
    for (const k of Object.keys(localStorage)) {
      if (k.startsWith('im:') && !k.startsWith(`im:${server}:`)) localStorage.removeItem(k)
    }
  },
}

let me = ''
let server = ''
let client = null

/* Announcements */

const shown = new Map() // ID to list item

function text(body) {
  if (typeof body === 'string') return body
  return typeof body?.text === 'string' ? body.text : JSON.stringify(body ?? null)
}

const refused = new Set() // IDs, until there is room

function receive(m) {
  try {
    if (!store.get('a', m.id)) {
      store.put('a', m.id, JSON.stringify({from: m.from, time: m.time, text: text(m.body)}))
      store.trim().forEach(hide)
    }
  } catch (e) { // not acknowledged: it comes again
    refused.add(m.id)
    return trouble(`This browser keeps no more (${e.name}). What was announced comes again when there is room.`)
  }
  if (refused.delete(m.id) && !refused.size) trouble('')
  show(m.id)
  acknowledge(m.id)
}

// acknowledge joins what comes close together. What fails comes again, and is acknowledged again.
const acks = []
function acknowledge(id) {
  if (acks.push(id) > 1) return
  setTimeout(() => {
    for (const ids = acks.splice(0); ids.length;) client?.rpc('fanfare.ack', {ids: ids.splice(0, 256)}).catch(() => {})
  }, 50)
}

function show(id) {
  if (shown.has(id)) return
  const kept = store.get('a', id)
  if (!kept) return
  const m = JSON.parse(kept)
  const item = make('li', '')
  item.dataset.id = id
  const head = make('span', 'from', m.from || 'somebody')
  head.append(' ', clock(m.time))
  item.append(head, make('span', 'tools'), make('span', 'text', m.text))
  const feed = $('feed')
  const end = feed.scrollHeight - feed.scrollTop - feed.clientHeight < 40
  const next = [...shown.keys()].filter(other => other > id).sort()[0]
  feed.firstElementChild.insertBefore(item, next ? shown.get(next) : null)
  shown.set(id, item)
  mark(id)
  if (end) feed.scrollTop = feed.scrollHeight
}

function hide(id) {
  shown.get(id)?.remove()
  shown.delete(id)
  counts()
}

// mark shows whether an announcement was read.
function mark(id) {
  const item = shown.get(id)
  if (!item) return
  const read = store.get('r', id) !== null
  item.classList.toggle('unread', !read)
  const tools = item.querySelector('.tools')
  if (read) {
    tools.textContent = 'read'
  } else if (!tools.firstElementChild) {
    const button = make('button', 'quiet', 'Mark as read')
    button.setAttribute('aria-label', `Mark as read: ${item.querySelector('.text').textContent.slice(0, 80)}`)
    button.addEventListener('click', () => {
      readNow(id)
      $('feed').focus()
    })
    tools.append(button)
  }
  counts()
}

// readNow notes that an announcement was read, here and, when there is a connection, at the server.
function readNow(id) {
  if (store.get('r', id) === null) store.note('r', id, 'untold')
  mark(id)
  tell()
}

let telling = false
async function tell() {
  if (telling || !connected()) return
  telling = true
  try {
    const untold = id => store.get('r', id) === 'untold'
    for (let id; (id = store.ids('r').find(untold));) { // looked for anew, as more may be read meanwhile
      await client.rpc('opened', {id})
      store.note('r', id, 'told')
    }
  } catch { // at the next connection
  } finally {
    telling = false
  }
}

function counts() {
  const unread = [...shown.values()].filter(item => item.classList.contains('unread')).length
  $('unread').textContent = unread ? `${unread} unread` : ''
  $('read-all').hidden = !unread
  $('no-announcements').hidden = shown.size > 0
  document.querySelector('[data-count=announcements]').textContent = unread || ''
  let chats = 0
  for (const name of lines.keys()) chats += news(name)
  document.querySelector('[data-count=chats]').textContent = chats || ''
  document.title = (unread + chats ? `(${unread + chats}) ` : '') + `${me} · IM`
}

/* Chats */

let people = []
let partner = ''
const lines = new Map() // by partner

function other(l) {
  return l.from === me ? l.to : l.from
}

function addLine(l) {
  const list = lines.get(other(l)) ?? []
  if (list.some(x => x.id === l.id)) return
  list.push(l)
  list.sort((a, b) => a.id - b.id)
  lines.set(other(l), list)
}

// news is how many lines of somebody's were not seen.
function news(name) {
  const seen = Number(store.get('c', name) ?? 0)
  return (lines.get(name) ?? []).filter(l => l.from === name && l.time > seen).length
}

function seen(name) {
  const last = lines.get(name)?.at(-1)
  if (last) store.note('c', name, last.time)
}

// inView says whether the lines of the open conversation are on the screen.
function inView() {
  return partner !== '' && !document.hidden && $('chats').offsetParent !== null
}

function showChats() {
  if (inView()) seen(partner)
  $('people').hidden = partner !== ''
  $('conversation').hidden = partner === ''
  const online = new Map(people.map(p => [p.name, p.online]))
  for (const name of lines.keys()) if (!online.has(name)) online.set(name, false)
  const last = name => lines.get(name)?.at(-1)
  const names = [...online.keys()].sort((a, b) =>
    (last(b)?.id ?? 0) - (last(a)?.id ?? 0) || online.get(b) - online.get(a) || (a < b ? -1 : 1))
  $('no-people').hidden = names.length > 0
  const focused = document.activeElement?.dataset?.name
  $('people-list').replaceChildren(...names.map(name => {
    const button = make('button', '')
    button.dataset.name = name
    const dot = make('span', online.get(name) ? 'dot online' : 'dot')
    dot.append(make('span', 'hidden', online.get(name) ? 'here' : 'away'))
    button.append(dot, make('span', 'name', name), make('span', 'last', last(name)?.text ?? ''), make('span', 'count', news(name) || ''))
    button.addEventListener('click', () => {
      partner = name
      showChats()
      $('line').focus()
    })
    const item = make('li', '')
    item.append(button)
    return item
  }))
  if (focused) [...$('people-list').querySelectorAll('button')].find(b => b.dataset.name === focused)?.focus()
  if (partner) {
    $('with').textContent = partner
    $('with-state').textContent = online.get(partner) ? 'here' : 'away'
    const list = $('lines').firstElementChild
    const want = lines.get(partner) ?? []
    if (list.dataset.with !== partner) {
      list.replaceChildren()
      list.dataset.with = partner
    }
    const have = new Set([...list.children].map(li => Number(li.dataset.id)))
    for (const l of want) {
      if (have.has(l.id)) continue
      const item = make('li', l.from === me ? 'mine' : '', l.text)
      item.dataset.id = l.id
      item.prepend(make('span', 'hidden', `${l.from}: `))
      item.append(clock(l.time))
      list.append(item)
      $('lines').scrollTop = $('lines').scrollHeight
    }
  }
  counts()
}

async function look() {
  if (!connected() || document.hidden) return
  try {
    people = (await client.rpc('people', null)).data
    showChats()
  } catch { // next time
  }
}

/* The connection */

function connected() {
  return client?.state === 'connected'
}

function connect() {
  const address = location.origin.replace(/^http/, 'ws') + '/connection/websocket'
  client = new Centrifuge(address, {data: {name: me}, minReconnectDelay: 200, maxReconnectDelay: 3000})
  client.on('message', ({data}) => {
    if (data.fanfare) receive(data.fanfare)
  })
  client.on('publication', ({data}) => {
    if (data.line) {
      addLine(data.line)
      showChats()
    }
    if (data.opened) {
      store.note('r', data.opened, 'told')
      mark(data.opened)
    }
  })
  client.on('connecting', () => state('connecting', 'Connecting…'))
  client.on('connected', async ctx => {
    if (ctx.data.server !== server) begin(ctx.data.server)
    trouble('')
    state('connected', 'Connected')
    tell()
    look()
    try {
      const {data} = await client.rpc('lines', null)
      lines.clear()
      $('lines').firstElementChild.replaceChildren()
      data.forEach(addLine)
      showChats()
      aboutMe((await client.rpc('profile', null)).data)
    } catch { // the connection was lost again
    }
  })
  client.on('disconnected', ctx => {
    state('disconnected', 'Not connected')
    if (client) trouble(`The server has ended the connection: ${ctx.reason}. Load the page again to come back.`)
  })
  client.connect()
}

// begin shows what was kept of a server's announcements.
function begin(id) {
  server = id
  try {
    localStorage.setItem('im-server', id)
  } catch { // then what is kept is shown when there is a connection
  }
  store.only(id)
  store.at(id, me)
  shown.clear()
  $('feed').firstElementChild.replaceChildren()
  store.ids('a').forEach(show)
  counts()
}

function state(value, words) {
  $('state').dataset.state = value
  $('state').textContent = words
}

function trouble(words) {
  $('trouble').textContent = words
  $('trouble').hidden = !words
}

function enter(name) {
  me = name
  sessionStorage.setItem('im-name', name)
  $('login').hidden = true
  $('app').hidden = false
  $('me').textContent = me
  begin(localStorage.getItem('im-server') ?? '')
  showChats()
  connect()
}

function leave() {
  const c = client
  client = null
  c.disconnect()
  sessionStorage.removeItem('im-name')
  location.reload()
}

/* What people do */

$('login-form').addEventListener('submit', e => {
  e.preventDefault()
  const name = $('name').value.trim()
  const wrong = new TextEncoder().encode(name).length > 32 ? 'A name has at most 32 bytes.'
    : /[\p{Cc}\p{Cs}]/u.test(name) ? 'A name has no control characters.' : ''
  if (wrong) {
    $('name').setCustomValidity(wrong)
    return $('name').reportValidity()
  }
  if (name) enter(name)
})
$('name').addEventListener('input', () => $('name').setCustomValidity(''))
$('logout').addEventListener('click', leave)

$('read-all').addEventListener('click', () => {
  for (const [id, item] of shown) if (item.classList.contains('unread')) readNow(id)
  $('feed').focus()
})

$('push-form').addEventListener('submit', async e => {
  e.preventDefault()
  try {
    const answer = await fetch('/push', {method: 'POST', body: JSON.stringify({
      text: $('push-text').value, to: $('push-to').value, from: me, lifetime: Number($('push-lifetime').value),
    })})
    if (!answer.ok) throw new Error(await answer.text())
    $('push-text').value = ''
    $('push-outcome').textContent = 'Sent.'
  } catch (e) {
    $('push-outcome').textContent = `Not sent: ${e.message}`
  }
})

function aboutMe(a) {
  $('tier').value = a.tier || 'free'
  for (const box of document.querySelectorAll('[name=tag]')) box.checked = a.tags.includes(box.value)
}

$('about-form').addEventListener('submit', e => e.preventDefault())
$('about-form').addEventListener('change', async () => {
  const tags = [...document.querySelectorAll('[name=tag]:checked')].map(box => box.value)
  try {
    await client.rpc('profile', {tier: $('tier').value, tags})
    $('about-outcome').textContent = 'Noted.'
  } catch (e) {
    $('about-outcome').textContent = `Not noted: ${e.message}`
  }
})

$('line-form').addEventListener('submit', async e => {
  e.preventDefault()
  const words = $('line').value
  if (!words.trim()) return
  $('line').value = ''
  try {
    const {data} = await client.rpc('say', {to: partner, text: words})
    addLine(data.line)
    showChats()
    $('line-outcome').textContent = data.there ? '' : `${data.line.to} is away, and finds it on coming back, if this server runs on.`
  } catch (e) {
    $('line').value ||= words
    $('line-outcome').textContent = `Not sent: ${e.message}`
  }
})
$('back').addEventListener('click', () => {
  const name = partner
  partner = ''
  showChats()
  ;[...$('people-list').querySelectorAll('button')].find(b => b.dataset.name === name)?.focus()
})

for (const part of ['announcements', 'chats']) {
  $(`to-${part}`).addEventListener('click', () => {
    $('parts').dataset.part = part
    for (const p of ['announcements', 'chats']) $(`to-${p}`).setAttribute('aria-pressed', p === part)
    showChats()
  })
}
document.addEventListener('visibilitychange', look)
setInterval(look, 4000)

// Another tab of the same user has kept, dropped, or read something.
addEventListener('storage', ({key, newValue}) => {
  if (!key?.startsWith(store.prefix) || !me) return
  const kind = key[store.prefix.length]
  const id = key.slice(store.prefix.length + 1)
  if (kind === 'a') newValue === null ? hide(id) : show(id)
  if (kind === 'r') mark(id)
})

/* Small things */

function make(tag, name, words) {
  const e = document.createElement(tag)
  if (name) e.className = name
  if (words !== undefined) e.textContent = words
  return e
}

function clock(ms) {
  const at = new Date(ms)
  const e = make('time', '', at.toLocaleTimeString([], {hour: '2-digit', minute: '2-digit'}))
  e.dateTime = at.toISOString()
  e.title = at.toLocaleString()
  return e
}

const before = sessionStorage.getItem('im-name')
if (before) {
  enter(before)
} else {
  $('login').hidden = false
  $('name').focus()
}
