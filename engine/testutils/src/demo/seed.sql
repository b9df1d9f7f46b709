-- The first day's rows. Everything follows from md5 of a row number, so two runs are equal.

CREATE FUNCTION pg_temp.roll(digest text, at integer, sides integer) RETURNS integer
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT ('x' || substr(digest, 1 + at * 6, 6))::bit(24)::integer % sides $$;
CREATE FUNCTION pg_temp.pick(choices text[], digest text, at integer) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT choices[1 + pg_temp.roll(digest, at, cardinality(choices))] $$;

INSERT INTO countries VALUES
    ('AT', 'Austria', 20.00, 'EUR'), ('BE', 'Belgium', 21.00, 'EUR'), ('CH', 'Switzerland', 8.10, 'CHF'),
    ('CZ', 'Czechia', 21.00, 'CZK'), ('DE', 'Germany', 19.00, 'EUR'), ('DK', 'Denmark', 25.00, 'DKK'),
    ('ES', 'Spain', 21.00, 'EUR'), ('FI', 'Finland', 25.50, 'EUR'), ('FR', 'France', 20.00, 'EUR'),
    ('IE', 'Ireland', 23.00, 'EUR'), ('IT', 'Italy', 22.00, 'EUR'), ('NL', 'Netherlands', 21.00, 'EUR'),
    ('NO', 'Norway', 25.00, 'NOK'), ('PL', 'Poland', 23.00, 'PLN'), ('PT', 'Portugal', 23.00, 'EUR'),
    ('SE', 'Sweden', 25.00, 'SEK');

INSERT INTO warehouses VALUES
    (1, 'Bergen Harbour', 'Bergen', 'NO', '(5.3221,60.3913)', '06:30'),
    (2, 'Hamburg South', 'Hamburg', 'DE', '(9.9937,53.5511)', '05:00'),
    (3, 'Lyon Est', 'Lyon', 'FR', '(4.8357,45.7640)', '06:00'),
    (4, 'Brno Depot', 'Brno', 'CZ', '(16.6068,49.1951)', '07:15');

INSERT INTO shipping_methods VALUES
    ('bike', 'Bicycle courier', 7.50, '4 hours'), ('economy', 'Economy', 2.90, '6 days'),
    ('express', 'Express', 14.90, '1 day'), ('pickup', 'Collect in store', 0.00, '2 days'),
    ('standard', 'Standard parcel', 4.90, '3 days');

INSERT INTO discount_codes
SELECT season || percent, percent, initcap(lower(season)) || ' campaign, ' || percent || ' % off',
       daterange(first_day + percent, first_day + percent + 60), CASE WHEN percent > 15 THEN 500 - percent * 10 END
FROM (VALUES ('WELCOME', date '2025-06-01'), ('SPRING', '2026-01-15'), ('SUMMER', '2025-05-20'), ('AUTUMN', '2025-09-01'),
             ('WINTER', '2025-11-20'), ('CLUB', '2026-01-01'), ('FRIENDS', '2025-10-10')) AS s (season, first_day),
     (VALUES (5), (10), (12), (15), (20), (30)) AS p (percent);

INSERT INTO categories VALUES
    (1, NULL, 'Clothing', 'clothing'), (2, NULL, 'Footwear', 'footwear'), (3, NULL, 'Camping', 'camping'),
    (4, NULL, 'Climbing', 'climbing'), (5, NULL, 'On the water', 'on-the-water'), (6, NULL, 'Winter', 'winter'),
    (11, 1, 'Jackets', 'jackets'), (12, 1, 'Trousers', 'trousers'), (13, 1, 'Base layers', 'base-layers'),
    (14, 1, 'Hats and gloves', 'hats-and-gloves'), (21, 2, 'Hiking boots', 'hiking-boots'),
    (22, 2, 'Trail shoes', 'trail-shoes'), (31, 3, 'Tents', 'tents'), (32, 3, 'Sleeping bags', 'sleeping-bags'),
    (33, 3, 'Stoves', 'stoves'), (34, 3, 'Lamps', 'lamps'), (35, 3, 'Backpacks', 'backpacks'),
    (41, 4, 'Ropes', 'ropes'), (42, 4, 'Harnesses', 'harnesses'), (51, 5, 'Dry bags', 'dry-bags'),
    (52, 5, 'Paddles', 'paddles'), (61, 6, 'Snowshoes', 'snowshoes'), (62, 6, 'Ski touring', 'ski-touring');

INSERT INTO products (id, sku, category_id, name, description, price, weight_grams, attributes, tags, photo, active, created_at)
SELECT md5('product ' || n)::uuid,
       upper(substr(line, 1, 3)) || '-' || c.id || '-' || lpad(n::text, 4, '0'),
       c.id,
       line || ' ' || variant || ' ' || c.item,
       CASE WHEN n % 9 <> 0 THEN
           'The ' || line || ' ' || c.item || ' is made for ' || pg_temp.pick(ARRAY['long days above the tree line', 'wet autumn weekends',
           'fast overnight trips', 'families on their first tour', 'the daily ride to work', 'winter in the north'], h, 2)
           || '. ' || pg_temp.pick(ARRAY['Repairable: spare parts are kept for ten years.', 'Sewn in Portugal from recycled yarn.',
           'Tested for 200 nights on the Hardangervidda.', E'Wash cold,\ndry in the shade.', 'Free of PFAS.'], h, 3) END,
       round((c.base * (0.6 + pg_temp.roll(h, 1, 100) / 80.0))::numeric) - 0.05 - 0.05 * (n % 3),
       (c.base * (3 + pg_temp.roll(h, 0, 5)))::integer,
       jsonb_build_object('colour', pg_temp.pick(ARRAY['moss', 'slate', 'ochre', 'fjord blue', 'birch', 'ember'], h, 4),
           'warranty_years', 2 + n % 4, 'dimensions', jsonb_build_object('w', 10 + n % 50, 'h', 20 + n % 70),
           'recycled', n % 3 = 0),
       ARRAY[lower(variant), pg_temp.pick(ARRAY['bestseller', 'new', 'last season', 'member favourite'], h, 0)],
       CASE WHEN n % 6 = 0 THEN
           '\x89504e470d0a1a0a'::bytea || decode((SELECT string_agg(md5(n || '/' || part), '')
               FROM generate_series(1, CASE WHEN n % 72 = 0 THEN 1500 ELSE 6 END) AS part), 'hex') END,
       n % 40 <> 7,
       timestamptz '2023-04-01 08:00+00' + n * interval '16 hours 7 minutes'
FROM generate_series(1, 1500) AS n,
     LATERAL (SELECT md5('p' || n) AS h) AS d,
     LATERAL (SELECT pg_temp.pick(ARRAY['Skagen', 'Torres', 'Lysefjord', 'Vidda', 'Brenta', 'Kebne', 'Rondane', 'Galdhø', 'Tatra', 'Pindos',
         'Arran', 'Lofoten'], h, 0) AS line, pg_temp.pick(ARRAY['Light', 'Pro', 'Trek', 'Storm', 'Down', 'Eco', 'Mini', 'Max'], h, 1) AS variant) AS l,
     LATERAL (SELECT * FROM (VALUES (11, 'Jacket', 180), (12, 'Trousers', 95), (13, 'Shirt', 60), (14, 'Beanie', 28),
         (21, 'Boots', 190), (22, 'Trail Shoes', 130), (31, 'Tent', 390), (32, 'Sleeping Bag', 210), (33, 'Stove', 85), (34, 'Lamp', 45),
         (35, 'Backpack', 140), (41, 'Rope', 160), (42, 'Harness', 75), (51, 'Dry Bag', 35), (52, 'Paddle', 120), (61, 'Snowshoes', 170),
         (62, 'Touring Skis', 480)) AS v (id, item, base) OFFSET n % 17 LIMIT 1) AS c
ORDER BY n;

INSERT INTO price_history
SELECT p.id, date '2025-03-01' + 120 * step, round(p.price * (1.08 - 0.04 * step), 2)
FROM products p, generate_series(0, 2) AS step;

INSERT INTO stock
SELECT w.id, p.id, pg_temp.roll(md5(w.id || p.sku), 0, 120), 5 + pg_temp.roll(md5(w.id || p.sku), 1, 20)
FROM warehouses w, products p;

INSERT INTO customers (id, email, full_name, phone, country_code, birth_date, newsletter, preferences, created_at)
OVERRIDING SYSTEM VALUE
SELECT n,
       translate(lower(replace(first || '.' || last, ' ', '')), 'áéíóøØüšř', 'aeiooousr') || n || '@'
           || pg_temp.pick(ARRAY['example.com', 'example.org', 'example.net', 'mail.example', 'post.example'], h, 2),
       first || ' ' || last,
       CASE WHEN n % 5 <> 0 THEN '+' || (30 + pg_temp.roll(h, 3, 19)) || ' ' || (100000000 + pg_temp.roll(h, 4, 16000000) * 7) END,
       pg_temp.pick(ARRAY['AT', 'BE', 'CH', 'CZ', 'DE', 'DE', 'DE', 'DK', 'ES', 'FI', 'FR', 'FR', 'IE', 'IT', 'NL', 'NO', 'NO', 'PL', 'PT', 'SE'], h, 3),
       CASE WHEN n % 7 <> 0 THEN date '1948-01-01' + pg_temp.roll(h, 0, 21000) END,
       n % 3 = 0,
       jsonb_build_object('language', pg_temp.pick(ARRAY['de', 'en', 'fr', 'nb', 'it', 'pl'], h, 1),
           'sizes', jsonb_build_array(34 + n % 14, pg_temp.pick(ARRAY['S', 'M', 'L', 'XL'], h, 2))),
       timestamptz '2021-05-03 07:00+00' + n * interval '2 hours 48 minutes' + pg_temp.roll(h, 4, 6000) * interval '1 second'
FROM generate_series(1, 15000) AS n,
     LATERAL (SELECT md5('customer ' || n) AS h) AS d,
     LATERAL (SELECT pg_temp.pick(ARRAY['Anna', 'Lukas', 'Ingrid', 'Mateo', 'Chloé', 'Jonas', 'Zofia', 'Pieter', 'Sofia', 'Erik', 'Aoife', 'Marco',
           'Hanna', 'Tomáš', 'Camille', 'Lars', 'Beatriz', 'Mikko', 'Julia', 'Søren', 'Elena', 'Paul', 'Freya', 'Jakub', 'Léa', 'Ole', 'Greta',
           'Diego', 'Maja', 'Finn', 'Nora', 'Hugo', 'Katarzyna', 'Emil', 'Giulia', 'Anders', 'Marie', 'Bram', 'Inés', 'Petr'], h, 0) AS first,
       pg_temp.pick(ARRAY['Müller', 'Hansen', 'Rossi', 'Dubois', 'Novák', 'Kowalska', 'Jansen', 'Silva', 'García', 'Virtanen', 'Lindqvist', 'Murphy',
           'Gruber', 'Peeters', 'Schneider', 'Johansen', 'Moreau', 'Bianchi', 'Dvořák', 'Nowak', 'de Vries', 'Costa', 'Fernández', 'Korhonen',
           'Andersson', 'Byrne', 'Huber', 'Claes', 'Fischer', 'Berg', 'Laurent', 'Ricci', 'Svoboda', 'Wójcik', 'Bakker', 'Ferreira', 'Moser',
           'Nilsen', 'Weber', 'Østby'], h, 1) AS last) AS names
ORDER BY n;

INSERT INTO addresses (id, customer_id, kind, street, postal_code, city, country_code)
SELECT row_number() OVER (ORDER BY c.id, kind), c.id, kind::address_kind,
       pg_temp.pick(ARRAY['Lindenweg', 'Hauptstraße', 'Storgata', 'Rue des Lilas', 'Via Roma', 'Kerkstraat', 'Harbour Road', 'Långgatan', 'Calle Mayor',
           'Na Příkopě', 'Rua das Flores', 'Mannerheimintie', 'Am Bach', 'Skovvej'], h, 0) || ' ' || (1 + pg_temp.roll(h, 1, 180)),
       lpad(pg_temp.roll(h, 2, 99999)::text, 5, '0'),
       CASE c.country_code WHEN 'AT' THEN 'Innsbruck' WHEN 'BE' THEN 'Ghent' WHEN 'CH' THEN 'Chur' WHEN 'CZ' THEN 'Brno' WHEN 'DK' THEN 'Aarhus'
           WHEN 'DE' THEN pg_temp.pick(ARRAY['Hamburg', 'Freiburg', 'Leipzig', 'Kempten'], h, 3) WHEN 'ES' THEN 'Bilbao' WHEN 'FI' THEN 'Tampere'
           WHEN 'FR' THEN pg_temp.pick(ARRAY['Grenoble', 'Lyon', 'Annecy'], h, 3) WHEN 'IE' THEN 'Galway' WHEN 'IT' THEN 'Trento' WHEN 'NL' THEN 'Utrecht'
           WHEN 'NO' THEN pg_temp.pick(ARRAY['Bergen', 'Tromsø', 'Oslo'], h, 3) WHEN 'PL' THEN 'Kraków' WHEN 'PT' THEN 'Porto' ELSE 'Göteborg' END,
       c.country_code
FROM customers c, (VALUES ('billing'), ('delivery')) AS k (kind), LATERAL (SELECT md5(kind || c.id) AS h) AS d
WHERE kind = 'billing' OR c.id % 5 = 0;

CREATE TEMPORARY TABLE basket ON COMMIT DROP AS
SELECT n AS order_id, line, p.id AS product_id, 1 + (pg_temp.roll(h, 2, 10) = 0)::integer + (pg_temp.roll(h, 3, 25) = 0)::integer AS quantity, p.price
FROM generate_series(10001, 40000) AS n,
     generate_series(1, (ARRAY[1, 1, 1, 2, 2, 2, 3, 3, 4])[1 + n % 9]) AS line,
     LATERAL (SELECT md5(n || '/' || line) AS h) AS d,
     LATERAL (SELECT md5('product ' || (1 + pg_temp.roll(h, 0, 1500)))::uuid AS id) AS chosen,
     products p
WHERE p.id = chosen.id;

INSERT INTO orders (id, customer_id, status, shipping_method, discount_code, total, placed_at, shipped_at)
SELECT n, 1 + pg_temp.roll(h, 0, 15000), status::order_status, m.code,
       CASE WHEN n % 11 = 0 THEN pg_temp.pick(ARRAY['WELCOME10', 'SUMMER15', 'WINTER20', 'CLUB5', 'FRIENDS10'], h, 3) END,
       b.total + m.price, placed_at,
       CASE WHEN status IN ('shipped', 'delivered') THEN placed_at + interval '5 hours' + pg_temp.roll(h, 2, 90000) * interval '1 second' END
FROM (SELECT order_id AS n, sum(quantity * price) AS total FROM basket GROUP BY 1) AS b,
     LATERAL (SELECT md5('order ' || n) AS h) AS d,
     LATERAL (SELECT timestamptz '2025-03-01 00:00+00' + (n - 10001) * interval '1051 seconds'
         + pg_temp.roll(h, 4, 900) * interval '1 second' AS placed_at) AS t,
     LATERAL (SELECT CASE WHEN n > 39940 THEN 'pending' WHEN n > 39700 THEN 'paid' WHEN pg_temp.roll(h, 1, 33) = 0 THEN 'cancelled'
         WHEN n > 39200 THEN 'shipped' ELSE 'delivered' END AS status) AS s,
     shipping_methods m
WHERE m.code = pg_temp.pick(ARRAY['standard', 'standard', 'standard', 'economy', 'express', 'pickup', 'bike'], md5('m' || n), 0)
ORDER BY n;

INSERT INTO order_items (order_id, line, product_id, quantity, unit_price)
SELECT order_id, line, product_id, quantity, price FROM basket ORDER BY order_id, line;

INSERT INTO payments
SELECT md5('payment ' || id)::uuid, id, provider, total, CASE provider WHEN 'card' THEN lpad(pg_temp.roll(h, 1, 10000)::text, 4, '0') END,
       placed_at + interval '40 seconds'
FROM orders, LATERAL (SELECT md5('pay' || id) AS h) AS d,
     LATERAL (SELECT pg_temp.pick(ARRAY['card', 'card', 'card', 'transfer', 'wallet', 'invoice'], h, 0) AS provider) AS p
WHERE status NOT IN ('pending', 'cancelled') ORDER BY id;

INSERT INTO reviews (id, product_id, customer_id, rating, title, body, written_at)
SELECT n, md5('product ' || (1 + pg_temp.roll(h, 0, 1500)))::uuid, 1 + pg_temp.roll(h, 1, 15000), rating,
       (ARRAY['Sent it back', 'Expected more', 'Does the job', 'Very good', 'Would buy again'])[rating],
       CASE WHEN n % 4 <> 0 THEN pg_temp.pick(ARRAY['Kept me dry through a week in the Cairngorms.', 'The zip jams; the rest is fine.', 'Runs small: take one size up.',
           'Light, and it packs down to nothing.', 'My third one, the first two are still in use.', E'Pro: weight.\nContra: colour.', 'Delivery took nine days.',
           'Warm enough for −5 °C, not for more.'], h, 2) || ' ' || pg_temp.pick(ARRAY['', 'Thanks!', 'Recommended.', 'See you next season.'], h, 3) END,
       timestamptz '2024-02-01 12:00+00' + n * interval '3 hours 35 minutes'
FROM generate_series(1, 5000) AS n, LATERAL (SELECT md5('review ' || n) AS h) AS d,
     LATERAL (SELECT (ARRAY[1, 2, 3, 3, 4, 4, 4, 5, 5, 5])[1 + pg_temp.roll(h, 4, 10)] AS rating) AS r;

INSERT INTO page_views
SELECT n, timestamptz '2026-01-01 00:00+00' + n * interval '212 seconds', md5('session ' || n / 6)::uuid,
       CASE n % 6 WHEN 0 THEN '/' WHEN 1 THEN '/c/' || pg_temp.pick(ARRAY['tents', 'jackets', 'hiking-boots', 'backpacks', 'lamps'], h, 0)
           WHEN 5 THEN '/basket' ELSE '/p/' || left((md5('product ' || (1 + pg_temp.roll(h, 1, 1500)))::uuid)::text, 8) END,
       ('203.0.113.' || pg_temp.roll(h, 2, 254))::inet, CASE WHEN n % 8 <> 0 THEN 300 + pg_temp.roll(h, 3, 90000) END
FROM generate_series(1, 24000) AS n, LATERAL (SELECT md5('view ' || n) AS h) AS d;

INSERT INTO search_log
SELECT date '2025-12-01' + n / 67, pg_temp.pick(ARRAY['tent', 'tent 2 person', 'rain jacket', 'boots', 'boots wide', 'sleeping bag', 'gas stove', 'head lamp',
           'snowshoes', 'rope 60m', 'dry bag', 'merino', 'gift card', 'crampons'], h, 0),
       pg_temp.roll(h, 0, 14) * 3, CASE WHEN n % 5 = 0 THEN jsonb_build_object('max_price', 50 * (1 + n % 4)) END
FROM generate_series(1, 6000) AS n, LATERAL (SELECT md5('search ' || n) AS h) AS d;

SELECT setval(pg_get_serial_sequence('customers', 'id'), (SELECT max(id) FROM customers)),
       setval(pg_get_serial_sequence('addresses', 'id'), (SELECT max(id) FROM addresses)),
       setval(pg_get_serial_sequence('orders', 'id'), (SELECT max(id) FROM orders)),
       setval('reviews_id_seq', (SELECT max(id) FROM reviews));

REFRESH MATERIALIZED VIEW reporting.monthly_revenue;
REFRESH MATERIALIZED VIEW reporting.best_months;
