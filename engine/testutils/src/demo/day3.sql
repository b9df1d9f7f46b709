-- Wednesday. Returns are booked, an index makes the list of orders fast, and somebody forgets a WHERE.

CREATE INDEX orders_placed_at_idx ON orders (placed_at DESC);

UPDATE orders SET status = 'returned' WHERE status = 'delivered' AND id BETWEEN 38000 AND 38400 AND id % 25 = 0;
UPDATE orders SET status = 'delivered' WHERE status = 'shipped' AND id BETWEEN 39300 AND 39500;

INSERT INTO orders (customer_id, status, shipping_method, total, placed_at)
SELECT n * 173, 'pending', 'express', 14.90 + price, timestamptz '2026-03-04 07:00+00' + n * interval '23 minutes'
FROM generate_series(1, 22) AS n, products WHERE products.id = md5('product ' || n * 61)::uuid ORDER BY n;
INSERT INTO order_items (order_id, line, product_id, quantity, unit_price)
SELECT 40038 + n, 1, p.id, 1, p.price
FROM generate_series(1, 22) AS n, products p WHERE p.id = md5('product ' || n * 61)::uuid;

-- What was meant: WHERE code = 'FRIENDS30'. What ran made every code 90 % off.
UPDATE discount_codes SET percent = 90, uses_left = NULL;

-- Two products are discontinued; one customer moves house; one edits a review.
UPDATE products SET active = false, attributes = attributes || '{"discontinued": "2026-03-04"}' WHERE id IN (md5('product 610')::uuid, md5('product 1204')::uuid);
UPDATE addresses SET street = 'Fjordgata 8', postal_code = '07013', city = 'Trondheim', country_code = 'NO' WHERE customer_id = 1234;
UPDATE reviews SET rating = 2, title = 'Not as good as it was', body = E'The seam opened after three weeks.\nSent it back.' WHERE id = 4242;

INSERT INTO search_log VALUES
    ('2026-03-04', 'discount code', 0, NULL), ('2026-03-04', 'discount code', 0, NULL), ('2026-03-04', '90 percent', 0, NULL);

REFRESH MATERIALIZED VIEW reporting.monthly_revenue;
REFRESH MATERIALIZED VIEW reporting.best_months;
